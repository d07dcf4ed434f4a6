"""The contract of a data set, and how one is written: a list of jobs that any workers may do in any order.

    class Squares:
        name, licence, source = "squares", "CC0", "drawn here"
        classes = ["small", "large"]
        columns = {"image": Column("uint8", (8, 8, 1)), "label": Column("int64")}

        def parts(self) -> dict[str, int]:
            return {"train": 2, "test": 1}

        def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
            yield {"image": picture, "label": 0}

One class a file. The constructor takes plain arguments; a set read from original files takes `raw: str = "data/raw"`,
and names them in `originals` (see `raw.Originals`), in plain constants: `trainyard doctor` reads the source alone.
Files without a known digest may change: a set that reads such names them, as paths, in `own`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from ..errors import Refusal
from .store import DatasetDescription, PartSummary, write_manifest, write_part


class Dataset(DatasetDescription, Protocol):
    """`name`, `licence`, `source`, `columns`, `classes` ([] where there are none), and:"""

    def parts(self) -> dict[str, int]:
        """Split -> number of part files: a property of the data, never of how many workers there are."""

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """The examples of one part, one value a column: the same ones in the same order whenever it is asked."""


Job = tuple[str, int]  # split, part


def list_own_files(dataset: Any) -> list[Path]:
    """Files and folders that decide the data and may change, a user's own; also those of the set it wraps (`of`)."""
    wrapped = getattr(dataset, "of", None)
    return [*getattr(dataset, "own", []), *(list_own_files(wrapped) if wrapped is not None else [])]


def list_jobs(dataset: Dataset) -> list[Job]:
    return [(split, part) for split, parts in dataset.parts().items() for part in range(parts)]


def write_job(dataset: Dataset, folder: str | Path, split: str, part: int) -> PartSummary:
    """Writes one part file, whole or not at all."""
    return write_part(Path(folder) / f"{split}-{part:03d}.arrow", dataset.columns, dataset.examples(split, part))


def finish_dataset(dataset: Dataset, folder: str | Path, done: Iterable[tuple[Job, PartSummary]]) -> dict[str, Any]:
    """Writes the manifest once every job is done, and returns its content."""
    parts: dict[str, list[PartSummary]] = {split: [] for split in dataset.parts()}
    for (split, _), summary in done:
        parts[split].append(summary)
    for split, found in parts.items():
        if not sum(part.rows for part in found):
            raise Refusal(f"{dataset.name}: split '{split}' has no example; add some, or leave the split out")
    return write_manifest(folder, dataset, parts)


def prepare_dataset(dataset: Dataset, folder: str | Path) -> dict[str, Any]:
    """The whole set, in this process."""
    return finish_dataset(dataset, folder, [(job, write_job(dataset, folder, *job)) for job in list_jobs(dataset)])
