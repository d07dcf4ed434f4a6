"""Recognise pictures with YOLO's text labels."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np

from ..data.picture import SUFFIXES
from ..data.tree import split_of
from ..data.yolo_folder import DESCRIPTIONS, YoloFolder
from ..errors import Refusal, pluralize
from .findings import Findings, Progress, Tree
from .picture_layouts import describe_other_files
from .pictures import describe_pictures, examine_pictures, sample_pictures
from .proposals import propose_detector

PAIRED = 0.6  # share of the pictures that must have a text file where nothing names the classes


def recognise_yolo(tree: Tree, progress: Progress) -> Findings | None:
    """Return the findings about pictures with a text file of boxes each; None for any other layout."""
    if tree.root.is_file() or not tree.by_suffix(".txt") or not tree.by_suffix(*SUFFIXES):
        return None
    reader = YoloFolder(str(tree.root), bad="skip")
    try:
        if not _are_boxes(reader, bool(tree.by_suffix(*DESCRIPTIONS))):
            return None
    except Refusal:
        return None
    findings = Findings("YOLO: a text file of boxes per picture (data.yolo_folder.YoloFolder)")
    files = {name: tree.root / name for name in reader.pictures}
    facts = examine_pictures(list(files.values()), progress)
    findings.facts, odd = describe_pictures(facts, tree)
    findings.samples = sample_pictures([(files[name], name.rpartition("/")[2]) for name in reader.labels], None)
    try:
        names = reader.classes
        reader.list_splits()
    except Refusal as refusal:
        findings.odd = [str(refusal), *tree.odd, *odd]
        return findings
    findings.facts.append(f"classes: {len(names)}, {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}")
    sizes = {fact.file: fact.size for fact in facts}
    boxes: list[np.ndarray] = []
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    is_faulty = any(fact.fault for fact in facts) or bool(reader.unpaired)
    for number, name in enumerate(reader.labels, 1):
        labels, sides, faults = _read_labels(reader, name)
        odd += faults
        is_faulty = is_faulty or bool(faults)
        counts[split_of(name) or "boxes"].update(labels)
        boxes.append(np.hstack([sides * sizes[files[name]], np.tile(sizes[files[name]], (len(sides), 1))]))
        progress("annotations", number, len(reader.labels))
    findings.counts = {split: dict(labels) for split, labels in counts.items()}
    odd += [f"{count:,} text files {remark}" for remark, count in reader.remarks.items()] + reader.unpaired
    bare = [name for name in reader.pictures if name not in reader.labels]
    odd += [f"{pluralize(len(bare), 'picture')} without a text file (no objects), such as {bare[0]}"] if bare else []
    unused = [name for name in names if not any(labels[name] for labels in counts.values())]
    odd += [f"class '{name}': no box has it" for name in unused]
    findings.odd = tree.odd + odd + describe_other_files(tree, SUFFIXES | DESCRIPTIONS | {".txt", ".names"})
    data = {"use": "data.yolo_folder.YoloFolder", "folder": str(tree.root)}
    findings.recipe, findings.reasons = propose_detector(data, facts, boxes, is_faulty)
    return findings


def _read_labels(reader: YoloFolder, name: str) -> tuple[list[str], np.ndarray, list[str]]:
    """Return (classes, width and height as shares [N, 2], faults) of the boxes of a picture."""
    annotation = reader.read_annotation(name)
    faults = annotation.faults or []
    valid = [not fault for fault in faults]
    labels = [label for label, is_valid in zip(annotation.classes, valid, strict=True) if is_valid]
    corners = np.asarray(annotation.boxes)[np.array(valid, bool)]
    return labels, corners[:, 2:] - corners[:, :2], [fault for fault in faults if fault]


def _are_boxes(reader: YoloFolder, is_described: bool) -> bool:
    """Return whether the text files hold boxes: most lines are numbers, and most pictures have a file.

    is_described: a YAML file lies there, as it does beside labels of many pictures without objects.
    """
    if len(reader.labels) < (0 if is_described else PAIRED) * len(reader.pictures):
        return False
    lines = [box for boxes in reader.boxes_of.values() for box in boxes]
    return sum(box.number >= 0 for box in lines) >= PAIRED * len(lines)
