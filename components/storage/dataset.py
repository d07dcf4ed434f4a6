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
    bad, duplicates, conflicts    what to do with examples that can't be read, are in two splits, or have two labels
                (see review.py); `examples` yields a `Fault` in place of an example that can't be read
    locate      a method (split, row) that returns the file of an example; faults count as rows
    notes       sentences about what lies beside the examples and was passed over
    remarks     a Counter: `examples` adds what it does to examples that do not fit, such as "are not square and ..."
    tokenizers  {column: tokens.tokenizer.Tokenizer}, where columns hold token numbers; written beside the data

The first three must be literals, because `trainyard doctor` parses the source without importing it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..errors import Refusal, printable
from .review import SplitContent, review_content, review_faults
from .store import DatasetDescription, PartSummary, write_manifest, write_part


class Fault(NamedTuple):
    """An example that can't be read, in its place: one line with the place, the fault and the remedy."""

    reason: str


class Dataset(DatasetDescription, Protocol):
    """A data set as users write it: its description, and its examples by split and part."""

    def parts(self) -> dict[str, int]:
        """Return {split: number of part files}, which never depends on the number of workers."""

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any] | Fault]:
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
    """Write one part file atomically and return its summary; leave out the rows numbered `dropped` of the part.

    Faults are left out, too, and do not count as rows.
    """
    faults: dict[int, str] = {}
    earlier = Counter(getattr(dataset, "remarks", {}))

    def readable() -> Iterator[dict[str, Any]]:
        for number, example in enumerate(dataset.examples(split, part)):
            if isinstance(example, Fault):
                faults[number] = printable(example.reason)
            else:
                yield example

    examples = (example for row, example in enumerate(readable()) if row not in dropped)
    summary = write_part(Path(folder) / f"{split}-{part:03d}.arrow", dataset.columns, examples)
    remarks = Counter(getattr(dataset, "remarks", {})) - earlier
    return replace(summary, faults=faults, remarks=dict(remarks))


def review_jobs(dataset: Dataset, done: Collection[tuple[Job, PartSummary]]) -> tuple[dict[Job, set[int]], list[str]]:
    """Return {job to repeat: rows of its part to leave out}, and sentences about duplicates and conflicts.

    Refuses them, and examples that can't be read, if the data set says so.
    """
    sentences = [*getattr(dataset, "notes", ()), *review_faults(dataset, [summary for _, summary in done])]
    by_split: dict[str, list[tuple[Job, PartSummary]]] = {}
    for job, summary in sorted(done, key=lambda pair: pair[0]):
        by_split.setdefault(job.split, []).append((job, summary))
    contents = {}
    for split, pairs in by_split.items():
        labels = [summary.labels for _, summary in pairs if summary.labels is not None]
        digests = np.concatenate([summary.contents for _, summary in pairs])
        contents[split] = SplitContent(digests, np.concatenate(labels) if labels else None, _original_rows(pairs))
    review = review_content(dataset, contents)
    dropped: dict[Job, set[int]] = {}
    for split, rows in review.dropped.items():
        ends = np.cumsum([summary.rows for _, summary in by_split[split]])
        for row in rows:
            number = int(np.searchsorted(ends, row, side="right"))
            job, summary = by_split[split][number]
            dropped.setdefault(job, set()).add(row - int(ends[number]) + summary.rows)
    return dropped, sentences + review.sentences


def _original_rows(pairs: Sequence[tuple[Job, PartSummary]]) -> np.ndarray:
    """Return the numbers of a split's rows as its data set counts them, faults included."""
    rows = []
    first = 0
    for _, summary in pairs:
        count = summary.rows + len(summary.faults)
        rows.append(first + np.delete(np.arange(count), list(summary.faults)))
        first += count
    return np.concatenate(rows)


def finish_dataset(
    dataset: Dataset,
    folder: str | Path,
    done: Iterable[tuple[Job, PartSummary]],
    review: Sequence[str] = (),
    store: str | None = None,
) -> dict[str, Any]:
    """Write the manifest once every job is done, and return its content; refuses a split without examples.

    review: sentences about duplicates and conflicts, for the manifest. store: the object store that holds the parts.
    """
    parts: dict[str, list[PartSummary]] = {split: [] for split in dataset.parts()}
    for job, summary in done:
        parts[job.split].append(summary)
    for split, summaries in parts.items():
        if not any(summary.rows for summary in summaries):
            raise Refusal(f"{dataset.name}: split '{split}' has no example; add some, or leave the split out")
    return write_manifest(folder, dataset, parts, review, store)


def prepare_dataset(dataset: Dataset, folder: str | Path) -> dict[str, Any]:
    """Write every part and the manifest in this process; return the manifest's content."""
    done = {job: write_job(dataset, folder, *job) for job in list_jobs(dataset)}
    dropped, sentences = review_jobs(dataset, done.items())
    done |= {job: write_job(dataset, folder, *job, rows) for job, rows in dropped.items()}
    return finish_dataset(dataset, folder, done.items(), sentences)
