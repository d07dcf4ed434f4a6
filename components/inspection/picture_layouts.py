"""Recognise pictures in folders of classes, and pictures with a table about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data.folder import list_folders
from ..data.image_folder import find_split_folders
from ..data.picture import SUFFIXES, UNREADABLE_SUFFIXES
from ..errors import Refusal, pluralize
from .findings import ARCHIVES, Findings, Progress, Tree
from .pictures import (
    PictureFacts,
    describe_pictures,
    examine_pictures,
    find_duplicates,
    propose_reading,
    sample_pictures,
)

MAX_CLASSES = 2000
STEPS = 1000  # of training that a recipe proposes, roughly
FEWEST = 3  # different names by which a column of pictures is recognised
NAMED = 0.6  # share of a column's values that must name pictures


def recognise_classes(tree: Tree, progress: Progress) -> Findings | None:
    """Return the findings about folders of classes; None for any other layout."""
    files = tree.by_suffix(*SUFFIXES)
    if not files or tree.root.is_file():
        return None
    root = find_base(tree.root)
    try:
        folders = find_split_folders(root)
    except Refusal as refusal:
        return Findings("folders of which some look like splits", odd=[str(refusal), *tree.odd])
    bases = folders or {"": root}
    classes = list_folders(bases.get("train", root))
    placed = {file: place for file in files if (place := _find_place(file, bases)) is not None}
    if not classes or len(classes) > MAX_CLASSES or len(placed) < NAMED * len(files) or not _are_classes(tree, bases):
        return None
    facts = examine_pictures(list(placed), progress)
    findings = Findings("folders of classes (data.image_folder.ImageFolder)")
    for split, name in placed.values():
        findings.counts.setdefault(split, {}).setdefault(name, 0)
        findings.counts[split][name] += 1
    findings.facts, odd = describe_pictures(facts, tree)
    rest = [file for file in files if file not in placed]
    odd += [f"{tree.name(file)}: lies beside the folders of classes; passed over" for file in rest]
    conflicts, lines = _compare_duplicates(facts, placed, tree)
    findings.odd = tree.odd + odd + lines + describe_other_files(tree, SUFFIXES)
    empty = [name for name in classes if not any(place[1] == name for place in placed.values())]
    findings.odd += [f"{name}: a folder of a class without a picture; left out" for name in empty]
    deeper = {file.parent for file in placed if len(file.relative_to(root).parts) > (3 if folders else 2)}
    if deeper:
        name = tree.name(min(deeper))
        counted = pluralize(len(deeper), "folder")
        findings.odd.append(f"{counted} inside those of classes, such as {name}: part of the class")
    arguments, findings.reasons = propose_reading(facts)
    if empty:
        arguments["bad"] = "skip"
        findings.reasons.append("bad: skip, because some classes have no picture (listed above)")
    if conflicts:
        arguments["conflicts"] = "drop"
        findings.reasons.append("conflicts: drop, because some pictures are in two classes (listed above)")
    if folders and "test" not in folders:
        findings.reasons.append("test pictures are drawn from train/; set val: test to test on val/ instead")
    findings.samples = sample_pictures([(file, place[1]) for file, place in placed.items()], arguments.get("levels"))
    count = sum(findings.counts.get("train", findings.counts.get("", {})).values())
    data = {"use": "data.image_folder.ImageFolder", "folder": str(root), **arguments}
    findings.recipe = {"data": data, **propose_classifier(count, arguments.get("size", 64))}
    return findings


def find_base(folder: Path) -> Path:
    """Return the first folder, from `folder` downward, that holds more than a single folder."""
    while len(names := list_folders(folder)) == 1 and not any(entry.suffix in SUFFIXES for entry in folder.iterdir()):
        folder /= names[0]
    return folder


def propose_classifier(count: int, size: int, task: str = "tasks.classification.Classification") -> dict[str, Any]:
    """Return sections task and fit of a small ResNet for so many training pictures of such a side.

    Small and larger pictures take about the same time: the stem for larger ones divides their sides by four.
    """
    net = {"widths": [16, 32, 64], "stem": "cifar"} if size <= 32 else {"widths": [32, 64, 128], "stem": "imagenet"}
    batch = 64 if count >= 640 else 16
    return {
        "task": {
            "use": task,
            "model": {"use": "models.resnet.ResNet", "blocks": 1, **net},
            "optimizer": {"use": "optimizers.adamw", "lr": 3e-3, "weight_decay": 0.01},
        },
        "fit": propose_fit(count, batch),
    }


def propose_fit(count: int, batch: int, steps: int = STEPS) -> dict[str, Any]:
    """Return a section fit of about `steps` steps; the training split has about `count` examples, at least half."""
    while batch > max(2, count // 2):
        batch //= 2
    epochs = max(1, min(40, round(steps * batch / max(1, count))))
    schedule = {"use": "schedules.cosine", "warmup": 0.1}
    return {"epochs": epochs, "batch": batch, "shards": 2, "schedule": schedule}


def _find_place(file: Path, bases: dict[str, Path]) -> tuple[str, str] | None:
    """Return (split, class) of a picture, or None if it lies above the folders of classes."""
    for split, base in bases.items():
        if file.is_relative_to(base):
            parts = file.relative_to(base).parts
            return (split, parts[0]) if len(parts) > 1 else None
    return None


def _are_classes(tree: Tree, bases: dict[str, Path]) -> bool:
    """Return whether folders look like classes and not like the parts of another layout."""
    names = {name.lower() for base in bases.values() for name in list_folders(base)}
    parts = {"images", "masks", "labels", "annotations", "jpegimages", "annots"}
    return len(names) > 1 and not names & parts and not any(name.endswith("annot") for name in names)


def _compare_duplicates(
    facts: Sequence[PictureFacts], placed: dict[Path, tuple[str, str]], tree: Tree
) -> tuple[bool, list[str]]:
    """Return whether equal pictures are in two classes, and a line per group that is in two classes or splits."""
    conflicts = False
    lines = []
    for group in find_duplicates(facts):
        names = " = ".join(tree.name(file) for file in group[:4])
        if len({placed[file][1] for file in group}) > 1:
            conflicts = True
            lines.append(f"{names}: equal pictures in two classes")
        elif len({placed[file][0] for file in group}) > 1:
            lines.append(f"{names}: equal pictures in two splits")
    return conflicts, lines


def describe_other_files(tree: Tree, expected: set[str]) -> list[str]:
    """Return lines about files of other kinds than the layout's."""
    others = [file for file in tree.files if file.suffix.lower() not in expected]
    counts = Counter(file.suffix.lower() or "without a suffix" for file in others)
    lines = []
    for suffix, count in sorted(counts.items()):
        reason = "passed over"
        if suffix in UNREADABLE_SUFFIXES:
            reason = "can't be read here; convert them to JPEG or PNG"
        elif suffix in ARCHIVES:
            reason = "packed; unpack what belongs to the data, then inspect again"
        lines.append(f"{pluralize(count, 'file')} {suffix}: {reason}")
    return lines
