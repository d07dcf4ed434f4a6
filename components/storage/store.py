"""Folders of prepared data: Arrow IPC files (uncompressed, memory-mapped) and a manifest that describes them.

    data/prepared/manifest.json      name, licence, columns, classes; for each split its parts with their SHA-256
    data/prepared/train-000.arrow    a part: record batches of a few MiB
    data/prepared/train-contents.npy     a 64-bit digest of each row's content (see content.py)
    data/prepared/tokenizer-token.json   the tokenizer of the column "token", where there is one (see tokens/)

The parts may be in an object store instead (key "store" of the manifest), where each is named by its SHA-256.

Reading copies nothing: the system's page cache holds the files, so a process's own memory does not grow with the data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import Refusal, first_line, suggest_name
from ..files import read_object
from .column import Column
from .content import Digests, read_digests, write_digests
from .manifest import check_manifest, content_digest, describe_split
from .object_store import ObjectStore
from .part import Part, PartSummary, write_atomically, write_part
from .part_cache import PartAddress
from .remote_part import RemotePart
from .tokenizer_files import read_tokenizers, write_tokenizers

__all__ = ["Column", "PartSummary", "Split", "Store", "write_manifest", "write_part"]
MANIFEST = "manifest.json"


class DatasetDescription(Protocol):
    """The facts about a data set that its manifest records beside the part files."""

    name: str
    licence: str
    source: str
    columns: dict[str, Column]
    classes: list[str]  # [] where there are none


class Split:
    """The rows of several parts, one part after the other, with the columns of the first part."""

    def __init__(self, paths: Sequence[str | Path | PartAddress]) -> None:
        if not paths:
            raise Refusal("a split needs at least one part file; prepare the data again")
        self.paths = [path if isinstance(path, PartAddress) else Path(path) for path in paths]
        self.parts = [RemotePart(path) if isinstance(path, PartAddress) else Part(path) for path in self.paths]
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

    def __reduce__(self) -> tuple[type[Split], tuple[list[Path | PartAddress]]]:
        return Split, (self.paths,)

    @property
    def is_remote(self) -> bool:
        """Return whether parts of it are in an object store."""
        return any(isinstance(path, PartAddress) for path in self.paths)

    def part_numbers(self, rows: np.ndarray) -> np.ndarray:
        """Return the number of the part of each row: int64 [B]."""
        return np.searchsorted(self.ends, rows, side="right")

    def take(self, indices: np.ndarray, columns: Sequence[str] | None = None) -> dict[str, Any]:
        """Return the rows at `indices` [B], in that order, as {column: values} for all columns or the named ones.

        A fixed-shape column becomes a new array [B, ...], a ragged one a list of B arrays, strings a list of B.
        Raises IndexError for a negative row or one past the end.
        """
        indices = np.asarray(indices, dtype=np.int64)
        if indices.size and (indices.min() < 0 or indices.max() >= len(self)):
            raise IndexError(f"rows {indices.min()} to {indices.max()} of a split of {len(self)}")
        if len(self.parts) == 1:
            return {name: self.parts[0].take(name, indices) for name in columns or self.columns}
        part_numbers = self.part_numbers(indices)
        batch = {name: self.columns[name].allocate(len(indices)) for name in columns or self.columns}
        for number in np.unique(part_numbers).tolist():
            part = self.parts[number]
            positions = np.flatnonzero(part_numbers == number)
            rows = indices[positions] - (self.ends[number] - part.rows)
            for name, values in batch.items():
                _assign(values, positions, part.take(name, rows))
        return batch

    def array(self, name: str) -> np.ndarray:
        """Return all rows of a fixed-shape column [rows, ...].

        A read-only view if they are in one record batch, otherwise a copy.
        """
        if not self.columns[name].has_fixed_shape:
            raise Refusal(f"column '{name}' is {self.columns[name]}, without a fixed shape; read it with take()")
        pieces = [piece for part in self.parts for piece in part.arrays(name)]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces or [self.columns[name].allocate(0)])


class Store:
    """A folder of prepared data."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise Refusal(f"{folder}: no such folder of prepared data; run the prepare stage (dvc repro)")
        if not (self.folder / MANIFEST).is_file():
            raise Refusal(f"{folder}: contains no {MANIFEST}; run the prepare stage again (dvc repro)")

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Return the content of manifest.json; refuses a file that is not a manifest."""
        path = self.folder / MANIFEST
        try:
            manifest = read_object(path)
            check_manifest(manifest)
        except (ValueError, LookupError, TypeError, AttributeError, Refusal) as error:
            raise Refusal(
                f"{path}: not a valid manifest ({first_line(error)}); run the prepare stage again (dvc repro)"
            ) from None
        return manifest

    @property
    def final_split(self) -> str:
        """Return the split kept for the end: the test split, or validation or train where there is no other."""
        return next(name for name in ("test", "validation", "train") if name in self.manifest["splits"])

    def split(self, name: str, extra: Sequence[str | Path] = ()) -> Split:
        """Return the split called `name`, followed by the splits of that name in the folders `extra`."""
        names = self.manifest["splits"]
        if name not in names:
            raise Refusal(f"{self.folder}: no split '{name}'{suggest_name(name, names)}; it has: {', '.join(names)}")
        paths = [*self._part_paths(name)]
        for folder in extra:
            other = Store(folder)
            if name in other.manifest["splits"]:
                paths += other._part_paths(name)
        return Split(paths)

    def contents(self, name: str) -> Digests | None:
        """Return the digest of each row of a split; None for data that were prepared before there were digests."""
        return read_digests(_contents_file(self.folder, name))

    def tokenizers(self) -> dict[str, str]:
        """Return {column: content of its tokenizer.json}; refuses a file that differs from the manifest."""
        return read_tokenizers(self.folder, self.manifest.get("tokenizers", {}), "prepare the data again")

    def verify(self) -> None:
        """Read every part; refuses one that differs from the manifest, or holds invalid values, and another digest."""
        manifest = self.manifest
        if manifest.get("digest") != content_digest(manifest["columns"], manifest["classes"], manifest["splits"]):
            raise Refusal(f"{self.folder / MANIFEST}: its digest is not that of the parts it lists; prepare them again")
        if "store" in manifest:
            return self._verify_sizes(manifest)
        for name, split in manifest["splits"].items():
            for part, path in zip(split["parts"], self._part_files(name), strict=True):
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                if digest != part["sha256"]:
                    raise Refusal(f"{path}: SHA-256 is {digest}, the manifest says {part['sha256']}; prepare it again")
                opened = Part(path)
                opened.validate()
                if opened.rows != part["rows"]:
                    raise Refusal(f"{path}: has {opened.rows} rows, the manifest says {part['rows']}; prepare it again")

    def _verify_sizes(self, manifest: dict[str, Any]) -> None:
        """Refuse parts in the object store that are missing or have another size; digests are checked when read."""
        sizes = ObjectStore(manifest["store"]).sizes()
        for name in manifest["splits"]:
            for address in self._part_addresses(name):
                size = sizes.get(address.name)
                if size != address.bytes:
                    fault = "is missing" if size is None else f"has {size} bytes, the manifest says {address.bytes}"
                    raise Refusal(f"{address}: {fault}; prepare the data again (dvc repro --force prepare)")

    def _part_paths(self, name: str) -> Sequence[Path | PartAddress]:
        """Return where the parts of a split are."""
        return self._part_addresses(name) if "store" in self.manifest else self._part_files(name)

    def _part_addresses(self, name: str) -> list[PartAddress]:
        """Return the parts of a split in the object store."""
        manifest = self.manifest
        columns = {key: Column(value["dtype"], tuple(value["shape"])) for key, value in manifest["columns"].items()}
        return [
            PartAddress(manifest["store"], part["sha256"], part["bytes"], part["rows"], columns)
            for part in manifest["splits"][name]["parts"]
        ]

    def _part_files(self, name: str) -> list[Path]:
        """Return the part files of a split; refuses one that is missing or has another size."""
        paths = []
        for part in self.manifest["splits"][name]["parts"]:
            path = self.folder / part["file"]
            if not path.is_file():
                raise Refusal(
                    f"{path}: this part of split '{name}' is missing; run the prepare stage again (dvc repro)"
                )
            size = path.stat().st_size
            if size != part["bytes"]:
                raise Refusal(
                    f"{path}: has {size} bytes, the manifest says {part['bytes']}; "
                    "run the prepare stage again (dvc repro)"
                )
            paths.append(path)
        return paths


def write_manifest(
    folder: str | Path,
    dataset: DatasetDescription,
    parts: Mapping[str, Iterable[PartSummary]],
    review: Sequence[str] = (),
    store: str | None = None,
) -> dict[str, Any]:
    """Write manifest.json for `parts` (split -> its parts, in any order), and return its content.

    The digests of the examples' content are written beside it. review: sentences about duplicates and conflicts.
    store: the address of the object store that holds the parts; None where they are beside the manifest.

    The same parts give the same bytes, whichever workers wrote them and in whatever order.
    """
    ordered = {name: sorted(summaries, key=lambda part: part.file) for name, summaries in parts.items()}
    columns = {name: {"dtype": column.dtype, "shape": list(column.shape)} for name, column in dataset.columns.items()}
    classes = list(dataset.classes)
    splits = {name: describe_split(summaries, classes) for name, summaries in ordered.items()}
    manifest = {
        "name": dataset.name,
        "licence": dataset.licence,
        "source": dataset.source,
        "columns": columns,
        "classes": classes,
        "splits": splits,
        "digest": content_digest(columns, classes, splits),
        "review": list(review),
    }
    if store is not None:
        manifest["store"] = store
    tokenizers = {column: tokenizer.json for column, tokenizer in getattr(dataset, "tokenizers", {}).items()}
    if tokenizers:
        manifest["tokenizers"] = write_tokenizers(Path(folder), tokenizers)
    for name, summaries in ordered.items():
        write_digests(_contents_file(Path(folder), name), np.concatenate([part.contents for part in summaries]))
    with write_atomically(Path(folder) / MANIFEST) as file:
        file.write(json.dumps(manifest, indent=1, ensure_ascii=False).encode() + b"\n")
    return manifest


def _contents_file(folder: Path, split: str) -> Path:
    """Return the file with the digests of a split's rows."""
    return folder / f"{split}-contents.npy"


def _assign(target: Any, positions: np.ndarray, values: Any) -> None:
    """Set target[positions] = values for an array or a list."""
    if isinstance(target, np.ndarray):
        target[positions] = values
    else:
        for position, value in zip(positions, values, strict=True):
            target[position] = value
