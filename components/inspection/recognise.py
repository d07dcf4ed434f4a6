"""Try every recogniser in turn: the most particular layouts come first."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from ..data.picture import SUFFIXES
from ..data.table import table_suffix
from ..errors import Refusal, printable
from .annotated_layouts import recognise_coco, recognise_voc
from .file_layouts import recognise_aligned, recognise_text, recognise_text_folders
from .findings import ARCHIVES, Findings, Progress, list_tree, normal_form
from .mask_layouts import recognise_masks
from .picture_layouts import describe_other_files, recognise_classes
from .picture_tables import recognise_picture_list, recognise_picture_table
from .table_layouts import recognise_tables
from .tagged_layouts import recognise_tagged
from .yolo_layouts import recognise_yolo

MISSING = ("nan", "null", "n/a", "#n/a")  # what other programs write for no value
RECOGNISERS = (
    *(recognise_coco, recognise_voc, recognise_yolo, recognise_picture_table, recognise_masks, recognise_classes),
    *(
        recognise_picture_list,
        recognise_aligned,
        recognise_tagged,
        recognise_tables,
        recognise_text_folders,
        recognise_text,
    ),
)


def inspect_path(path: Path, progress: Progress) -> Findings:
    """Return the findings about a file or folder; refuses an archive, and a path without files."""
    tree = list_tree(path)
    if path.is_file() and table_suffix(path) in ARCHIVES:
        raise Refusal(f"{printable(path)}: is packed; unpack it, then inspect the folder")
    if not tree.files:
        raise Refusal(f"{printable(path)}: holds no visible file; name another folder")
    for recognise in RECOGNISERS:
        findings = recognise(tree, progress)
        if findings is not None:
            if recognise is not recognise_classes:  # its classes are folders, whose names are compared already
                findings.odd += list_odd_classes(dict.fromkeys(chain.from_iterable(findings.counts.values())))
            return findings
    findings = Findings("nothing that is known here (docs/own-data.md lists the layouts)")
    findings.odd = describe_other_files(tree, set())
    if tree.by_suffix(*SUFFIXES):
        findings.odd.append("pictures without classes: put those of each class into a folder, or add a table of labels")
    return findings


def list_odd_classes(names: Iterable[str]) -> list[str]:
    """Return lines about classes that are hardly two, and about one that looks like a missing value."""
    odd = []
    forms: dict[str, str] = {}
    for name in names:
        if name.lower() in MISSING:
            odd.append(f"class '{name}' looks like a missing value; empty these fields, or leave the rows out")
        form = " ".join(normal_form(name).split())
        if forms.setdefault(form, name) != name:
            odd.append(f"classes '{forms[form]}' and '{name}' differ in case, blanks or Unicode form alone")
    return odd
