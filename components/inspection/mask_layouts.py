"""Recognise pictures with masks: a label picture each, or one mask file per object."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from ..data.picture import SUFFIXES, open_picture
from ..errors import Refusal
from .annotated_layouts import PAIRED
from .findings import Findings, Progress, Tree
from .picture_layouts import describe_other_files
from .pictures import describe_pictures, examine_pictures, sample_pictures
from .proposals import propose_segmentation


def recognise_masks(tree: Tree, progress: Progress) -> Findings | None:
    """Return the findings about pictures with label pictures or masks; None for any other layout."""
    files = tree.by_suffix(*SUFFIXES)
    if tree.root.is_file():
        return None
    per_object = [file for file in files if file.parent.name.lower() == "masks" and _has_sibling(file, "images")]
    if per_object and per_object[0].parent.parent != tree.root:
        return _describe_objects(tree, per_object, files, progress)
    by_folder: dict[Path, dict[str, Path]] = {}
    for file in files:
        by_folder.setdefault(file.parent, {})[file.stem] = file
    for folder, masks in sorted(by_folder.items()):
        if not re.search(r"(mask|annot|label|seg|gt)s?$", folder.name.lower()):
            continue
        for other, pictures in by_folder.items():
            common = masks.keys() & pictures.keys()
            if other != folder and len(common) > PAIRED * len(masks):
                return _describe_label_pictures(tree, folder, other, by_folder, progress)
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
    findings.odd = tree.odd + odd + describe_other_files(tree, SUFFIXES | {".csv"})
    findings.samples = sample_pictures([(file, file.stem[:12]) for file in pictures], None)
    data = {
        "use": "data.mask_folder.MaskFolder",
        "folder": str(tree.root),
        "classes": ["object"],
        "pictures": f"{prefix}{{name}}/{pictures[0].parent.name}/*{pictures[0].suffix}",
        "masks": f"{prefix}{{name}}/{masks[0].parent.name}/*{masks[0].suffix}",
    }
    findings.reasons = ["classes: [object], a name for what the masks show; rename it"]
    findings.recipe = propose_segmentation(data, facts, [])
    return findings


def _describe_label_pictures(
    tree: Tree, masks: Path, pictures: Path, by_folder: dict[Path, dict[str, Path]], progress: Progress
) -> Findings:
    """Return the findings about folders of label pictures beside folders of pictures."""
    findings = Findings("pictures with a label picture each (data.mask_folder.MaskFolder)")
    patterns = {"pictures": pictures, "masks": masks}
    texts = {name: folder.relative_to(tree.root).as_posix() for name, folder in patterns.items()}
    suffixes = {name: Counter(file.suffix for file in by_folder[folder].values()) for name, folder in patterns.items()}
    split = re.compile(r"(?<![a-z])(train|valid|validation|val|test)(?=annot|mask|/|_|$)")
    if all(split.search(text) for text in texts.values()):
        texts = {name: split.sub("{split}", text, count=1) for name, text in texts.items()}
    names = ("train", "val", "valid", "validation", "test")
    folders = [
        (
            tree.root / texts["pictures"].replace("{split}", name),
            tree.root / texts["masks"].replace("{split}", name),
            name,
        )
        for name in (names if "{split}" in texts["masks"] else ("all",))
    ]
    values: Counter[int] = Counter()
    odd: list[str] = []
    everything: list[Path] = []
    for place, labels, name in folders:
        place_pictures, place_masks = by_folder.get(place, {}), by_folder.get(labels, {})
        if not place_pictures:
            continue
        findings.counts[name] = {"pictures": len(place_pictures), "masks": len(place_masks)}
        everything += place_pictures.values()
        odd += [f"{tree.name(place_pictures[key])}: no mask" for key in sorted(place_pictures - place_masks.keys())]
        odd += [f"{tree.name(place_masks[key])}: no picture" for key in sorted(place_masks - place_pictures.keys())]
        for file in place_masks.values():
            try:
                with open_picture(file) as image:
                    levels, numbers = np.unique(np.asarray(image).reshape(-1), return_counts=True)
                values.update(dict(zip(levels.tolist(), numbers.tolist(), strict=True)))
            except Refusal as refusal:
                odd.append(str(refusal))
    facts = examine_pictures(everything, progress)
    findings.facts, picture_odd = describe_pictures(facts, tree)
    total = sum(values.values())
    shares = ", ".join(f"{value}: {count / total:.1%}" for value, count in sorted(values.items())[:40])
    findings.facts.append(f"values of the masks, by share of the pixels: {shares}")
    findings.odd = tree.odd + picture_odd + odd
    findings.samples = sample_pictures([(file, file.stem[:16]) for file in everything], None)
    levels_of_classes = [value for value in sorted(values) if value != 255]
    if levels_of_classes == [0]:
        levels_of_classes = [0, 255]
    classes = [f"class {value}" for value in levels_of_classes]
    data: dict[str, Any] = {
        "use": "data.mask_folder.MaskFolder",
        "folder": str(tree.root),
        "classes": classes,
        "pictures": f"{texts['pictures']}/{{name}}{suffixes['pictures'].most_common(1)[0][0]}",
        "masks": f"{texts['masks']}/{{name}}{suffixes['masks'].most_common(1)[0][0]}",
    }
    findings.reasons = ["classes: named by their values in the masks; rename them, and list values to ignore"]
    findings.recipe = propose_segmentation(data, facts, odd)
    return findings
