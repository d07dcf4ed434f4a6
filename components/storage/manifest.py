"""The content of manifest.json: its structure, the entry of a split, and the digest of the data it describes."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from ..errors import Refusal, pluralize
from .column import Column
from .object_store import check_address
from .part import PartSummary


def check_manifest(manifest: dict[str, Any]) -> None:
    """Raise an error for a manifest of another structure, and for parts that are not files of its own folder."""
    for name, column in manifest["columns"].items():
        if column.keys() != {"dtype", "shape"}:
            raise ValueError(f"column '{name}' has {', '.join(column)}")
        Column(column["dtype"], tuple(column["shape"]))
    if not isinstance(manifest["classes"], list):
        raise ValueError("classes is not a list")
    for split in manifest["splits"].values():
        for part in split["parts"]:
            file = part["file"]
            if not file or Path(file).name != file or file == "..":
                raise ValueError(f"the part {file!r} is not a file of this folder")
            if not all(type(part[name]) is int and part[name] >= 0 for name in ("rows", "bytes")):
                raise ValueError(f"rows and bytes of {file} are not counts")
            if not isinstance(part["sha256"], str):
                raise ValueError(f"the SHA-256 of {file} is not a text")
            if "store" in manifest and not re.fullmatch("[0-9a-f]{64}", part["sha256"]):
                raise ValueError(f"the SHA-256 of {file} is not one")
    if "store" in manifest:
        check_address(manifest["store"])


def describe_split(parts: list[PartSummary], classes: list[str]) -> dict[str, Any]:
    """Return the manifest's entry for one split; refuses labels that are not numbers of `classes`."""
    entry: dict[str, Any] = {"rows": sum(part.rows for part in parts), "parts": []}
    for part in parts:
        entry["parts"].append({"file": part.file, "rows": part.rows, "bytes": part.bytes, "sha256": part.sha256})
    counts: dict[int, int] = {}
    for part in parts:
        for label, count in (part.class_counts or {}).items():
            counts[label] = counts.get(label, 0) + count
    if counts:
        if not 0 <= min(counts) <= max(counts) < len(classes):
            named = pluralize(len(classes), "class is", "classes are")
            raise Refusal(f"{parts[0].file}: labels {min(counts)} to {max(counts)}, but {named} named")
        entry["class_counts"] = {name: counts.get(label, 0) for label, name in enumerate(classes)}
    return entry


def content_digest(columns: dict[str, Any], classes: list[str], splits: dict[str, Any]) -> str:
    """Return the SHA-256 over columns, classes and the digests of all parts."""
    parts = sorted((name, part["sha256"]) for name, split in splits.items() for part in split["parts"])
    return hashlib.sha256(json.dumps([columns, classes, parts]).encode()).hexdigest()
