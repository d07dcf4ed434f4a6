"""Recognise pictures with boxes: Pascal VOC and COCO."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ..data.annotated import find_box_fault
from ..data.coco_folder import check_instances
from ..data.image_folder import SPLIT_NAMES
from ..data.image_table import clean_path
from ..data.picture import SUFFIXES
from ..errors import Refusal, first_line, pluralize
from .findings import Findings, Progress, Tree
from .picture_layouts import describe_other_files
from .pictures import describe_pictures, examine_pictures, sample_pictures
from .proposals import collect_boxes, propose_detector

MAX_XML = 4 << 20  # bytes
MAX_JSON = 1 << 30
MOST_EXAMINED = 500  # pictures by which the folder of pictures is found
PAIRED = 0.6  # share of the pictures that must have an annotation


def recognise_voc(tree: Tree, progress: Progress) -> Findings | None:
    """Return the findings about pictures with one XML file each; None for any other layout."""
    files = tree.by_suffix(".xml")
    is_beside = not any(file.parent.name.lower() == "annotations" for file in files)

    def key(file: Path) -> str:
        return str(file.with_suffix("")) if is_beside else file.stem

    annotations = {key(file): file for file in files}
    pictures = {key(file): file for file in tree.by_suffix(*SUFFIXES) if "Segmentation" not in file.parent.name}
    pairs = annotations.keys() & pictures.keys()
    if len(pairs) < PAIRED * max(1, len(annotations)) or not pairs:
        return None
    findings = Findings("Pascal VOC: an XML file per picture (data.voc_folder.VocFolder)")
    facts = examine_pictures([pictures[name] for name in sorted(pictures)], progress)
    sizes = {fact.file: fact.size for fact in facts}
    findings.facts, picture_odd = describe_pictures(facts, tree)
    odd: list[str] = []
    counts: Counter[str] = Counter()
    boxes: list[np.ndarray] = []
    for number, (name, file) in enumerate(sorted(annotations.items()), 1):
        if name not in pictures:
            odd.append(f"{tree.name(file)}: no picture of this name")
            continue
        faults, sides = _read_voc(file, sizes.get(pictures[name], (0, 0)), counts, tree)
        odd += faults
        boxes.append(sides)
        progress("annotations", number, len(annotations))
    odd += [
        f"{tree.name(pictures[name])}: no annotation of this name" for name in sorted(pictures - annotations.keys())
    ]
    lists = {
        file.stem: sum(bool(line.strip()) for line in file.read_text(errors="replace").splitlines())
        for file in tree.by_suffix(".txt")
        if file.stem in SPLIT_NAMES
    }
    findings.facts.append(
        "splits: " + (", ".join(f"{n} {pluralize(c, 'line')}" for n, c in lists.items()) or "none; drawn by seed")
    )
    findings.counts["boxes"] = dict(counts)
    findings.odd = tree.odd + picture_odd + odd + describe_other_files(tree, SUFFIXES | {".xml", ".txt", ".csv"})
    findings.samples = sample_pictures([(pictures[name], pictures[name].stem) for name in sorted(pairs)], None)
    data = {"use": "data.voc_folder.VocFolder", "folder": str(tree.root)}
    is_faulty = bool(odd) or any(fact.fault for fact in facts)
    findings.recipe, findings.reasons = propose_detector(data, facts, boxes, is_faulty)
    return findings


def _read_voc(file: Path, size: tuple[int, int], counts: Counter[str], tree: Tree) -> tuple[list[str], np.ndarray]:
    """Count the boxes of an annotation by class; return what is odd about it, and the boxes for `propose_detector`.

    size: of its picture.
    """
    name = tree.name(file)
    sides: list[tuple[float, ...]] = []
    if file.stat().st_size > MAX_XML:
        return [f"{name}: more than {MAX_XML >> 20} MB, too much for an annotation"], collect_boxes(sides)
    try:
        root = ElementTree.fromstring(file.read_bytes())
    except (ElementTree.ParseError, ValueError) as error:
        return [f"{name}: not valid XML ({first_line(error)})"], collect_boxes(sides)
    odd = []
    for item in root.iter("object"):
        counts[(item.findtext("name") or "").strip() or "(no name)"] += 1
        try:
            x1, y1, x2, y2 = (float(item.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax"))
        except ValueError:
            odd.append(f"{name}: a box without four numbers")
            continue
        if x2 <= x1 or y2 <= y1:
            odd.append(f"{name}: a box without an area ({x1:g}, {y1:g}, {x2:g}, {y2:g})")
        elif size != (0, 0) and (x2 > size[0] + 1 or y2 > size[1] + 1 or min(x1, y1) < 0):
            odd.append(f"{name}: a box beyond its picture of {size[0]} x {size[1]} ({x1:g}, {y1:g}, {x2:g}, {y2:g})")
        else:
            sides.append((x2 - x1, y2 - y1, *size))
    return odd, collect_boxes(sides)


def recognise_coco(tree: Tree, progress: Progress) -> Findings | None:
    """Return the findings about JSON files of instances; None for any other layout."""
    files: dict[Path, dict[str, Any]] = {}
    odd: list[str] = []
    for file in tree.by_suffix(".json"):
        content = _read_coco(file)
        if content is not None:
            try:
                files[file] = check_instances(tree.name(file), content)
            except Refusal as refusal:
                odd.append(str(refusal))
    findings = Findings("COCO: JSON files of instances (data.coco_folder.CocoFolder)", odd=odd)
    if not files:
        return findings if odd else None
    pictures = {file.name: file for file in tree.by_suffix(*SUFFIXES)}
    facts = examine_pictures(sorted(pictures.values()), progress)
    findings.facts, picture_odd = describe_pictures(facts, tree)
    picture_sizes = {fact.file.name: fact.size for fact in facts}
    for file, content in files.items():
        names = {category["id"]: category["name"] for category in content["categories"]}
        images = {image["id"]: clean_path(image["file_name"]) for image in content["images"]}
        counts = Counter(names.get(item["category_id"], "(no category)") for item in content["annotations"])
        findings.counts[file.stem] = dict(counts)
        objects = pluralize(len(content["annotations"]), "object")
        findings.facts.append(f"{tree.name(file)}: {pluralize(len(images), 'picture')}, {objects}")
        missing = [name for name in images.values() if Path(name).name not in pictures]
        odd += [f"{tree.name(file)}: no picture {name}" for name in missing]
        sizes = {number: picture_sizes.get(Path(name).name, (0, 0)) for number, name in images.items()}
        for item in content["annotations"]:
            fault = _find_coco_fault(item["bbox"], sizes.get(item["image_id"], (0, 0)))
            odd += [f"{tree.name(file)}: object {item.get('id')} {fault}"] if fault else []
    findings.odd = tree.odd + picture_odd + odd + describe_other_files(tree, SUFFIXES | {".json"})
    findings.samples = sample_pictures([(file, name) for name, file in sorted(pictures.items())], None)
    data: dict[str, Any] = {"use": "data.coco_folder.CocoFolder", "folder": str(tree.root)}
    data |= _coco_patterns(files, pictures, tree)
    is_faulty = bool(odd) or any(fact.fault for fact in facts)
    boxes = [sides for content in files.values() for sides in _list_sides(content)]
    if not any(content["annotations"] for content in files.values()):
        findings.odd.append("no object in any file: a detector would learn to find nothing")
    findings.recipe, findings.reasons = propose_detector(data, facts, boxes, is_faulty)
    return findings


def _list_sides(content: dict[str, Any]) -> list[np.ndarray]:
    """Return the boxes of each picture for `propose_detector`."""
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    by_picture: dict[Any, list[tuple[float, ...]]] = {number: [] for number in sizes}
    for item in content["annotations"]:
        if _has_area(item["bbox"]) and item["image_id"] in sizes:
            by_picture[item["image_id"]].append((*item["bbox"][2:], *sizes[item["image_id"]]))
    return [collect_boxes(sides) for sides in by_picture.values()]


def _read_coco(file: Path) -> dict[str, Any] | None:
    """Return the content of a JSON file that has COCO's three lists, or None for another file."""
    if file.stat().st_size > MAX_JSON:
        return None
    with file.open("rb") as content:
        if not content.read(1 << 12).lstrip().startswith(b"{"):
            return None
    try:
        record = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        return None
    lists = ("images", "annotations", "categories")
    return record if isinstance(record, dict) and all(isinstance(record.get(name), list) for name in lists) else None


def _find_coco_fault(box: list[float], size: tuple[int, int]) -> str | None:
    """Return what a fit would refuse in a box (x, y, width, height) of a picture of `size`; (0, 0): not known."""
    if not _has_area(box):
        return f"without an area (bbox {box})"
    x, y, width, height = box
    fault = find_box_fault(np.array([x, y, x + width, y + height]), size) if size != (0, 0) else None
    return f"({fault})" if fault else None


def _has_area(box: list[float]) -> bool:
    return box[2] > 0 and box[3] > 0


def _coco_patterns(files: dict[Path, dict[str, Any]], pictures: dict[str, Path], tree: Tree) -> dict[str, str]:
    """Return the arguments annotations and pictures of `data.coco_folder.CocoFolder`."""
    first, content = next(iter(files.items()))

    def generalise(path: Path, splits: bool) -> str:
        text = path.relative_to(tree.root).as_posix()
        pattern = r"(?<![a-z])(train|valid|validation|val|test)(\d{4})?(?![a-z])"
        return re.sub(pattern, "{split}", text) if splits else text

    by_split = len(files) > 1
    folders: Counter[Path] = Counter()
    for image in content["images"][:MOST_EXAMINED]:
        name = clean_path(image["file_name"])
        file = pictures.get(Path(name).name)
        if file is not None and file.as_posix().endswith(f"/{name}"):
            folders[file.parents[name.count("/")]] += 1
    folder = folders.most_common(1)[0][0] if folders else tree.root
    return {
        "annotations": generalise(first, by_split),
        "pictures": generalise(folder, by_split).removeprefix("."),
    }
