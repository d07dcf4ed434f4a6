"""Recognise pictures with masks: a label picture each, or one mask file per object."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.masks import MAX_CLASSES
from ..data.picture import SUFFIXES, open_picture
from ..data.table import read_table
from ..data.voc_folder import read_indices
from ..errors import Refusal
from .annotated_layouts import PAIRED
from .findings import Findings, Progress, Tree
from .picture_layouts import describe_other_files
from .pictures import PictureFacts, describe_pictures, examine_pictures, sample_pictures
from .proposals import propose_segmentation

MASKS = re.compile(r"(masks?|annot(ation)?s?|labels?|seg(mentation)?s?|gt|ground_?truths?|trimaps?)$")
ENDINGS = ("", "_mask", "_segmentation", "_seg", "_label", "_labels", "_labelIds", "_gt", "_L", "-mask", "-label")
SPLITS = ("train", "val", "valid", "validation", "test")
Value = int | tuple[int, ...]  # a number, or red, green and blue


def recognise_masks(tree: Tree, progress: Progress) -> Findings | None:
    """Return the findings about pictures with label pictures or masks; None for any other layout."""
    files = tree.by_suffix(*SUFFIXES)
    if tree.root.is_file():
        return None
    per_object = [file for file in files if file.parent.name.lower() == "masks" and _has_sibling(file, "images")]
    counts = Counter(file.parent.parent for file in files if file.parent.name.lower() == "images")
    if per_object and per_object[0].parent.parent != tree.root and counts and max(counts.values()) == 1:
        return _describe_objects(tree, per_object, files, progress)
    by_folder: dict[Path, dict[str, Path]] = {}
    for file in files:
        by_folder.setdefault(file.parent, {})[file.stem] = file
    for folder, masks in sorted(by_folder.items()):
        if not MASKS.search(folder.name.lower()):
            continue
        for ending in ENDINGS:
            names = {stem.removesuffix(ending) for stem in masks if stem.endswith(ending)}
            for other, pictures in by_folder.items():
                if other != folder and len(names & pictures.keys()) > PAIRED * len(masks):
                    return _describe_label_pictures(tree, folder, other, by_folder, ending, progress)
    return None


def _has_sibling(file: Path, name: str) -> bool:
    return (file.parent.parent / name).is_dir()


def _describe_objects(tree: Tree, masks: list[Path], files: list[Path], progress: Progress) -> Findings:
    """Return the findings about a folder per picture, with one mask file per object."""
    findings = Findings("a folder per picture, with one mask file per object (data.mask_folder.MaskFolder)")
    pictures = [file for file in files if file.parent.name.lower() == "images"]
    facts = examine_pictures(pictures, progress)
    findings.facts, odd = describe_pictures(facts, tree)
    findings.facts.append(f"masks: {len(masks):,}, {len(masks) / max(1, len(pictures)):.1f} per picture")
    base = masks[0].parent.parent.parent.relative_to(tree.root).as_posix()
    prefix = "" if base == "." else f"{base}/"
    findings.counts["all"] = {"pictures": len(pictures), "objects": len(masks)}
    by_folder = {file.parent.parent: file for file in pictures}
    misfits = list_misfits(
        [(by_folder[file.parent.parent], file) for file in masks if file.parent.parent in by_folder], facts, tree
    )
    findings.odd = tree.odd + odd + misfits + describe_other_files(tree, SUFFIXES | {".csv"})
    findings.samples = sample_pictures([(file, file.stem[:12]) for file in pictures], None)
    data = {
        "use": "data.mask_folder.MaskFolder",
        "folder": str(tree.root),
        "classes": ["object"],
        "pictures": f"{prefix}{{name}}/{pictures[0].parent.name}/*{pictures[0].suffix}",
        "masks": f"{prefix}{{name}}/{masks[0].parent.name}/*{masks[0].suffix}",
    }
    findings.reasons = ["classes: [object], a name for what the masks show; rename it"]
    findings.recipe = propose_segmentation(data, facts, misfits)
    return findings


def _describe_label_pictures(
    tree: Tree, masks: Path, pictures: Path, by_folder: dict[Path, dict[str, Path]], ending: str, progress: Progress
) -> Findings:
    """Return the findings about folders of label pictures beside folders of pictures.

    ending: what a label picture has after the name of its picture.
    """
    findings = Findings("pictures with a label picture each (data.mask_folder.MaskFolder)")
    patterns = {"pictures": pictures, "masks": masks}
    texts = {name: folder.relative_to(tree.root).as_posix() for name, folder in patterns.items()}
    split = re.compile(r"(?<![a-z])(train|valid|validation|val|test)(?=annot|_?mask|_?label|/|_|$)")
    if all(split.search(text) for text in texts.values()):
        texts = {name: split.sub("{split}", text, count=1) for name, text in texts.items()}
    used: dict[str, list[Path]] = {"pictures": [], "masks": []}
    pairs: list[tuple[Path, Path]] = []
    odd: list[str] = []
    for split_name in SPLITS if "{split}" in texts["masks"] else ("all",):
        place_pictures, place_masks = (
            by_folder.get(tree.root / text.replace("{split}", split_name), {}) for text in texts.values()
        )
        place_masks = {stem.removesuffix(ending): file for stem, file in place_masks.items()}
        if not place_pictures:
            continue
        findings.counts[split_name] = {"pictures": len(place_pictures), "masks": len(place_masks)}
        used["pictures"] += place_pictures.values()
        used["masks"] += place_masks.values()
        pairs += [(place_pictures[key], mask) for key, mask in place_masks.items() if key in place_pictures]
        odd += [f"{tree.name(place_pictures[key])}: no mask" for key in sorted(place_pictures - place_masks.keys())]
        odd += [f"{tree.name(place_masks[key])}: no picture" for key in sorted(place_masks - place_pictures.keys())]
    facts = examine_pictures(used["pictures"], progress)
    findings.facts, picture_odd = describe_pictures(facts, tree)
    values, faults = count_values(used["masks"], progress)
    odd += dict.fromkeys([*faults, *list_misfits(pairs, facts, tree)])
    total = sum(values.values())
    shares = ", ".join(f"{value}: {count / total:.1%}" for value, count in sorted(values.items())[:40])
    kind = "colours" if any(isinstance(value, tuple) for value in values) else "values"
    findings.facts.append(f"{kind} of the masks, by share of the pixels: {shares}")
    findings.odd = tree.odd + picture_odd + odd + describe_other_files(tree, SUFFIXES | {".csv"})
    findings.samples = sample_pictures([(file, file.stem[:16]) for file in used["pictures"]], None)
    if any(file.suffix.lower() in (".jpg", ".jpeg") for file in used["masks"]):
        findings.odd.append("masks in JPEG files: their values are blurred at the edges; save them as PNG")
    if len(values) > MAX_CLASSES or not values:
        findings.reasons = [f"no recipe: {len(values):,} different {kind} in the masks are hardly classes"]
        return findings
    arguments, findings.reasons = name_classes(list(values), read_names(tree))
    data: dict[str, Any] = {"use": "data.mask_folder.MaskFolder", "folder": str(tree.root), **arguments}
    for name, files in used.items():
        suffixes = {file.suffix for file in files}
        data[name] = f"{texts[name]}/{{name}}{ending * (name == 'masks')}" + (
            suffixes.pop() if len(suffixes) == 1 else ".*"
        )
        data[name] = data[name].removeprefix("./")
    findings.recipe = propose_segmentation(data, facts, odd)
    return findings


def list_misfits(pairs: list[tuple[Path, Path]], facts: Sequence[PictureFacts], tree: Tree) -> list[str]:
    """Return a line per (picture, mask) whose mask can't be opened or has another size than the picture."""
    sizes = {fact.file: fact.size for fact in facts if not fact.fault}
    lines = []
    for picture, mask in pairs:
        try:
            with open_picture(mask) as image:
                width, height = image.size
        except Refusal as refusal:
            lines.append(str(refusal))
            continue
        if sizes.get(picture, image.size) != image.size:
            expected = " x ".join(map(str, sizes[picture]))
            lines.append(f"{tree.name(mask)}: the mask has {width} x {height} pixels, the picture {expected}")
    return lines


def count_values(files: list[Path], progress: Progress) -> tuple[Counter[Value], list[str]]:
    """Return the number of pixels per value of label pictures, or per colour where they have any, and faults."""
    values: Counter[Value] = Counter()
    faults = []
    for number, file in enumerate(files, 1):
        try:
            levels = read_indices(str(file), file.read_bytes())
            numbers, counts = np.unique(levels, return_counts=True)
            values.update(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
        except Refusal:
            try:
                with open_picture(file) as image:
                    pixels = np.asarray(image.convert("RGB")).astype(np.int32) @ (1 << 16, 1 << 8, 1)
                numbers, counts = np.unique(pixels, return_counts=True)
                for colour, count in zip(numbers.tolist(), counts.tolist(), strict=True):
                    values[colour >> 16, colour >> 8 & 255, colour & 255] += count
            except Refusal as refusal:
                faults.append(str(refusal))
        progress("masks", number, len(files))
    if any(isinstance(value, tuple) for value in values):  # a mask of one grey class among coloured ones
        grey = {value: (value, value, value) for value in values if isinstance(value, int)}
        for value, colour in grey.items():
            values[colour] += values.pop(value)
    return values, faults


def name_classes(values: list[Value], names: dict[Value, str]) -> tuple[dict[str, Any], list[str]]:
    """Return the arguments of `data.mask_folder.MaskFolder` for masks of such values or colours, and the reasons.

    names: of the colours, where a table gives them.
    """
    colours = sorted(value for value in values if isinstance(value, tuple))
    if colours:
        order = list(names)
        colours.sort(key=lambda colour: order.index(colour) if colour in names else len(order))
        classes = [names.get(colour, "colour " + "-".join(map(str, colour))) for colour in colours]
        reason = "classes: from the table of colours" if names else "classes: named by their colours; rename them"
        arguments: dict[str, Any] = {"classes": classes, "colours": [list(colour) for colour in colours]}
        return arguments, [reason, "move colours that are not to be judged to the end, and leave out their classes"]
    numbers = sorted(value for value in values if isinstance(value, int))
    is_binary = len(numbers) <= 2
    levels = [value for value in numbers if value != 255 or is_binary]
    arguments = {"classes": [f"class {value}" for value in levels]}
    reasons = ["classes: named by their values in the masks; rename them, and list values to ignore"]
    if levels != list(range(levels[0], levels[0] + len(levels))):
        arguments["values"] = levels
    elif levels[0]:
        arguments["first"] = levels[0]
    if 255 in levels:
        arguments["ignored"] = []
        reasons.append("ignored: none, because 255 is one of two values; otherwise it stands for pixels not judged")
    return arguments, reasons


def read_names(tree: Tree) -> dict[Value, str]:
    """Return {colour: name} of a table with columns name, r, g and b; {} without one."""
    for file in tree.by_suffix(".csv"):
        try:
            columns = {name.lower(): values for name, values in read_table(file).columns.items()}
            rows = zip(*(columns[name] for name in ("name", "r", "g", "b")), strict=True)
            return {(int(r or ""), int(g or ""), int(b or "")): str(name) for name, r, g, b in rows}
        except (Refusal, LookupError, ValueError):
            continue
    return {}
