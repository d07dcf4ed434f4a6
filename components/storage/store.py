"""Prepared data: Arrow IPC files (uncompressed, memory-mapped) and a manifest that says what they hold.

    data/prepared/manifest.json      names, licence, columns, classes, and of each split its parts with their SHA-256
    data/prepared/train-000.arrow    a part: record batches of a few MiB

Reading copies nothing: pages of the files come and go with the system's cache, and a process's own memory does not grow
with the data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import Refusal, suggest_name
from .part import Column, Part, PartSummary, write_atomically, write_part

__all__ = ["Column", "PartSummary", "Split", "Store", "write_manifest", "write_part"]
MANIFEST = "manifest.json"


class DatasetDescription(Protocol):
    """What a manifest says of a data set beside its files."""

    name: str
    licence: str
    source: str
    columns: dict[str, Column]
    classes: list[str]


class Split:
    """The rows of several parts, one behind the other, with the columns of the first part."""

    def __init__(self, paths: Sequence[str | Path]) -> None:
        if not paths:
            raise Refusal("a split needs at least one part file; prepare the data again")
        self.paths = [Path(path) for path in paths]
        self.parts = [Part(path) for path in self.paths]
        self.columns = self.parts[0].columns
        for part in self.parts[1:]:
            for name, column in self.columns.items():
                if part.columns.get(name) != column:
                    raise Refusal(
                        f"{part.path}: column '{name}' is {part.columns.get(name)}, but {column} in {self.paths[0]}; "
                        "prepare both with the same recipe"
                    )
        self.ends = np.cumsum([part.rows for part in self.parts])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __reduce__(self) -> tuple[type[Split], tuple[list[Path]]]:
        return Split, (self.paths,)

    def take(self, indices: np.ndarray, columns: Sequence[str] | None = None) -> dict[str, Any]:
        """The rows at `indices` [B], in that order, of all or the named columns.

        A fixed-shape column becomes one new array [B, ...]; a ragged one a list of B arrays; strings a list of B.
        Raises IndexError for a row below 0 or past the end.
        """
        indices = np.asarray(indices, dtype=np.int64)
        if indices.size and (indices.min() < 0 or indices.max() >= len(self)):
            raise IndexError(f"rows {indices.min()} to {indices.max()} of a split of {len(self)}")
        if len(self.parts) == 1:
            return {name: self.parts[0].take(name, indices) for name in columns or self.columns}
        owner = np.searchsorted(self.ends, indices, side="right")
        taken = {name: self.columns[name].empty(len(indices)) for name in columns or self.columns}
        for number, (part, end) in enumerate(zip(self.parts, self.ends, strict=True)):
            if not (at := np.flatnonzero(owner == number)).size:
                continue
            rows = indices[at] - (end - part.rows)
            for name, out in taken.items():
                _put(out, at, part.take(name, rows))
        return taken

    def array(self, name: str) -> np.ndarray:
        """A whole fixed-shape column [rows, ...]: a read-only view where it is one record batch, else a copy."""
        if not self.columns[name].has_fixed_shape:
            raise Refusal(f"column '{name}' is {self.columns[name]}, of no fixed shape; read it with take()")
        pieces = [piece for part in self.parts for piece in part.arrays(name)]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces or [self.columns[name].empty(0)])


class Store:
    """A folder of prepared data."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise Refusal(f"{folder}: no such folder of prepared data; run the prepare stage (dvc repro)")
        if not (self.folder / MANIFEST).is_file():
            raise Refusal(f"{folder}: holds no {MANIFEST}; run the prepare stage again (dvc repro)")

    @cached_property
    def manifest(self) -> dict[str, Any]:
        try:
            manifest = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))
            return manifest if manifest["splits"] is not None else {}
        except (ValueError, KeyError, TypeError):
            raise Refusal(
                f"{self.folder / MANIFEST}: is no manifest; run the prepare stage again (dvc repro)"
            ) from None

    def split(self, name: str, extra: Sequence[str | Path] = ()) -> Split:
        """The split called `name`; behind it what the stores in the folders `extra` hold under that name."""
        known = self.manifest["splits"]
        if name not in known:
            raise Refusal(f"{self.folder}: no split '{name}'{suggest_name(name, known)}; it has: {', '.join(known)}")
        paths = self._paths(name)
        for folder in extra:
            other = Store(folder)
            paths += other._paths(name) if name in other.manifest["splits"] else []
        return Split(paths)

    def verify(self) -> None:
        """Refuses unless every part has the bytes the manifest was written for (reads all of them)."""
        for name, split in self.manifest["splits"].items():
            for part, path in zip(split["parts"], self._paths(name), strict=True):
                with path.open("rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
                if found != part["sha256"]:
                    raise Refusal(f"{path}: SHA-256 is {found}, the manifest says {part['sha256']}; prepare it again")

    def _paths(self, name: str) -> list[Path]:
        paths = []
        for part in self.manifest["splits"][name]["parts"]:
            path = self.folder / part["file"]
            if not path.is_file():
                raise Refusal(
                    f"{path}: this part of split '{name}' is missing; run the prepare stage again (dvc repro)"
                )
            if path.stat().st_size != part["bytes"]:
                size = f"{path.stat().st_size} bytes, the manifest says {part['bytes']}"
                raise Refusal(f"{path}: has {size}; run the prepare stage again (dvc repro)")
            paths.append(path)
        return paths


def write_manifest(
    folder: str | Path, dataset: DatasetDescription, parts: Mapping[str, Iterable[PartSummary]]
) -> dict[str, Any]:
    """Writes manifest.json for `parts` (split -> its parts, in any order) and returns its content.

    The same parts give the same bytes, whoever wrote them and when.
    """
    columns = {name: {"dtype": c.dtype, "shape": list(c.shape)} for name, c in dataset.columns.items()}
    splits = {name: _entry(sorted(found, key=lambda p: p.file), dataset.classes) for name, found in parts.items()}
    manifest = {
        "name": dataset.name,
        "licence": dataset.licence,
        "source": dataset.source,
        "columns": columns,
        "classes": list(dataset.classes),
        "splits": splits,
        "digest": _digest(columns, list(dataset.classes), splits),
    }
    with write_atomically(Path(folder) / MANIFEST) as file:
        file.write(json.dumps(manifest, indent=1, ensure_ascii=False).encode() + b"\n")
    return manifest


def _entry(parts: list[PartSummary], classes: list[str]) -> dict[str, Any]:
    """What the manifest says of one split."""
    entry: dict[str, Any] = {"rows": sum(part.rows for part in parts), "parts": []}
    entry["parts"] = [{k: v for k, v in asdict(part).items() if k != "class_counts"} for part in parts]
    counts: dict[int, int] = {}
    for part in parts:
        for label, count in (part.class_counts or {}).items():
            counts[label] = counts.get(label, 0) + count
    if counts:
        if not 0 <= min(counts) <= max(counts) < len(classes):
            raise Refusal(
                f"{parts[0].file}: labels {min(counts)} to {max(counts)}, but {len(classes)} classes are named"
            )
        entry["class_counts"] = {name: counts.get(label, 0) for label, name in enumerate(classes)}
    return entry


def _digest(columns: dict[str, Any], classes: list[str], splits: dict[str, Any]) -> str:
    parts = sorted((name, part["sha256"]) for name, split in splits.items() for part in split["parts"])
    return hashlib.sha256(json.dumps([columns, classes, parts]).encode()).hexdigest()


def _put(out: Any, at: np.ndarray, values: Any) -> None:
    if isinstance(out, np.ndarray):
        out[at] = values
    else:
        for slot, value in zip(at, values, strict=True):
            out[slot] = value
