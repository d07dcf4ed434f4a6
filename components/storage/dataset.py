"""The contract of a data set, and its preparation as jobs that any worker may run in any order.

    class Squares:
        name, licence, source = "squares", "CC0", "drawn here"
        classes = ["small", "large"]
        columns = {"image": Column("uint8", (8, 8, 1)), "label": Column("int64")}

        def parts(self) -> dict[str, int]:
            return {"train": 2, "test": 1}

        def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
            yield {"image": picture, "label": 0}

The constructor takes plain arguments. A data set that reads original files takes `raw: str = "data/raw"` and has

    originals   the files, each with address and digest (see originals/fetch.py)
    by_name     True where a recipe needs only the originals that it names
    instead     patterns of files that do as well as the originals
    own         paths of files without a known digest, which may change
    duplicates, conflicts    what to do with examples that are in two splits or have two labels (see review.py)
    locate      a method (split, row) that returns the file of an example

The first three must be literals, because `trainyard doctor` parses the source without importing it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..errors import Refusal
from .review import SplitContent, review_content
from .store import DatasetDescription, PartSummary, write_manifest, write_part


class Dataset(DatasetDescription, Protocol):
    """A data set as users write it: its description, and its examples by split and part."""

    def parts(self) -> dict[str, int]:
        """Return {split: number of part files}, which never depends on the number of workers."""

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the examples of one part, {column: value}: on every call the same ones in the same order."""


class Job(NamedTuple):
    """One part file to write."""

    split: str
    part: int


def list_own_files(dataset: Any) -> list[Path]:
    """Return the files and folders that hold a data set's content and may change, such as a user's pictures.

    Includes those of the data set that it wraps as its attribute `of`.
    """
    files = list(getattr(dataset, "own", []))
    wrapped = getattr(dataset, "of", None)
    return files if wrapped is None else files + list_own_files(wrapped)


def list_jobs(dataset: Dataset) -> list[Job]:
    """Return one job per part file, split by split."""
    return [Job(split, part) for split, parts in dataset.parts().items() for part in range(parts)]


def write_job(
    dataset: Dataset, folder: str | Path, split: str, part: int, dropped: Collection[int] = ()
) -> PartSummary:
    """Write one part file atomically and return its summary; leave out the rows numbered `dropped` of the part."""
    examples = dataset.examples(split, part)
    remaining = (example for row, example in enumerate(examples) if row not in dropped)
    return write_part(Path(folder) / f"{split}-{part:03d}.arrow", dataset.columns, remaining if dropped else examples)


def review_jobs(dataset: Dataset, done: Iterable[tuple[Job, PartSummary]]) -> tuple[dict[Job, set[int]], list[str]]:
    """Return {job to repeat: rows of its part to leave out}, and sentences about duplicates and conflicts.

    Refuses them if the data set says so.
    """
    by_split: dict[str, list[tuple[Job, PartSummary]]] = {}
    for job, summary in sorted(done, key=lambda pair: pair[0]):
        by_split.setdefault(job.split, []).append((job, summary))
    contents = {}
    for split, pairs in by_split.items():
        labels = [summary.labels for _, summary in pairs if summary.labels is not None]
        digests = np.concatenate([summary.contents for _, summary in pairs])
        contents[split] = SplitContent(digests, np.concatenate(labels) if labels else None)
    review = review_content(dataset, contents)
    dropped: dict[Job, set[int]] = {}
    for split, rows in review.dropped.items():
        ends = np.cumsum([summary.rows for _, summary in by_split[split]])
        for row in rows:
            number = int(np.searchsorted(ends, row, side="right"))
            job, summary = by_split[split][number]
            dropped.setdefault(job, set()).add(row - int(ends[number]) + summary.rows)
    return dropped, review.sentences


def finish_dataset(
    dataset: Dataset, folder: str | Path, done: Iterable[tuple[Job, PartSummary]], review: Sequence[str] = ()
) -> dict[str, Any]:
    """Write the manifest once every job is done, and return its content; refuses a split without examples.

    review: sentences about duplicates and conflicts, for the manifest.
    """
    parts: dict[str, list[PartSummary]] = {split: [] for split in dataset.parts()}
    for job, summary in done:
        parts[job.split].append(summary)
    for split, summaries in parts.items():
        if not any(summary.rows for summary in summaries):
            raise Refusal(f"{dataset.name}: split '{split}' has no example; add some, or leave the split out")
    return write_manifest(folder, dataset, parts, review)


def prepare_dataset(dataset: Dataset, folder: str | Path) -> dict[str, Any]:
    """Write every part and the manifest in this process; return the manifest's content."""
    done = {job: write_job(dataset, folder, *job) for job in list_jobs(dataset)}
    dropped, sentences = review_jobs(dataset, done.items())
    done |= {job: write_job(dataset, folder, *job, rows) for job, rows in dropped.items()}
    return finish_dataset(dataset, folder, done.items(), sentences)
