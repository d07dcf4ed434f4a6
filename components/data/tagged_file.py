"""Your own sentences with a tag per word, such as named entities: files in the form of CoNLL.

    train.conll: Empire B-place       a word per line, its tag in the last column, between tabs or spaces;
                 State  I-place       an empty line after each sentence

A drawn split depends on a sentence's words alone. Lines that begin with -DOCSTART- are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from ..errors import Refusal, printable
from ..recipes.ranges import Count, Fraction, Natural
from ..storage.dataset import Fault
from ..storage.draw import draw_split
from ..storage.store import Column
from .encoding import open_text, text_bytes
from .table_rows import Entries, Shares, check_splits
from .text_columns import ColumnWriter, TextColumn, batch_rows

ROWS_PER_PART = 16384
MOST_TAGS = 500
OUTSIDE = "O"
DOCUMENT = "-DOCSTART-"


class Sentence(NamedTuple):
    """Words and tags between single spaces, the place of the first word, and what is wrong, or ""."""

    text: str
    tags: str
    place: str
    fault: str


class TaggedFile:
    """Sentences: "text", words between single spaces, and "tags" [words], numbers of `classes`, "O" first.

    validation_file, test_file: such files for these splits
    test, validation: approximate shares of the sentences, where no file says which they are
    limit: number of training sentences to use, evenly spaced (None: all)
    bad: what happens to sentences with a word without a tag
    """

    licence = "the owner's"
    columns: ClassVar[dict[str, Column]] = {"text": Column("utf8"), "tags": Column("int32", (None,))}

    def __init__(
        self,
        file: str,
        validation_file: str | None = None,
        test_file: str | None = None,
        limit: Count | None = None,
        test: Fraction = 0.2,
        validation: Fraction = 0.0,
        seed: Natural = 0,
        encoding: str | None = None,
        bad: Literal["refuse", "skip"] = "refuse",
        duplicates: Literal["refuse", "drop", "allow"] = "drop",
    ) -> None:
        names = {"train": file, "validation": validation_file, "test": test_file}
        self.files = {split: Path(name) for split, name in names.items() if name is not None}
        for split, path in self.files.items():
            if not path.is_file():
                argument = "file" if split == "train" else f"{split}_file"
                raise Refusal(f"{argument}: {printable(path)} is not a file; name one with a word and a tag per line")
        self.own = list(self.files.values())
        self.has_validation = validation_file is not None
        self.name = Path(file).stem
        self.source = file
        self.limit = limit
        self.shares = Shares(test, validation, seed)
        self.encoding = encoding
        self.bad = bad
        self.duplicates = duplicates
        self.notes: list[str] = []

    @cached_property
    def sentences(self) -> dict[str, dict[str, TextColumn]]:
        """Return {split of the file: columns "text", "tags", "place" and "fault"}."""
        return {split: self._read_file(path) for split, path in self.files.items()}

    @cached_property
    def splits(self) -> dict[str, tuple[str, Entries]]:
        """Return {split: the split of its file, and its rows and faults}."""
        drawn = {name: Entries() for name in ("train", "validation", "test")}
        test = 0.0 if "test" in self.files else self.shares.test
        validation = 0.0 if "validation" in self.files else self.shares.validation
        for split, columns in self.sentences.items():
            for row, (text, fault) in enumerate(zip(columns["text"], columns["fault"], strict=True)):
                entry = Fault(f"{columns['place'][row]}: {fault}") if fault else row
                is_drawn = split == "train" and not fault
                target = draw_split((text or "").encode(), test, validation, self.shares.seed) if is_drawn else split
                drawn[target].append(entry)
        check_splits(drawn, {"test": test, "validation": validation})
        drawn["train"] = drawn["train"].sample(self.limit)
        sources = {name: name if name in self.files else "train" for name in drawn}
        return {name: (sources[name], entries) for name, entries in drawn.items() if entries}

    @cached_property
    def classes(self) -> list[str]:
        """Return the tags, "O" first, then by the kind of what they mark."""
        rows = (tags for columns in self.sentences.values() for tags in columns["tags"])
        tags = {tag for row in rows for tag in (row or "").split()} | {OUTSIDE}
        if not 2 <= len(tags) <= MOST_TAGS:
            raise Refusal(f"file: {self.source} has {len(tags):,} different tags, not 2 to {MOST_TAGS}; name another")
        return sorted(tags, key=lambda tag: (tag != OUTSIDE, tag.partition("-")[2], tag))

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}."""
        return {split: -(-len(entries) // ROWS_PER_PART) for split, (_, entries) in self.splits.items()}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any] | Fault]:
        """Yield the sentences of one part in the order of the file."""
        numbers = {tag: number for number, tag in enumerate(self.classes)}
        source, entries = self.splits[split]
        columns = self.sentences[source]
        for entry in entries[part * ROWS_PER_PART : (part + 1) * ROWS_PER_PART]:
            if isinstance(entry, Fault):
                yield entry
                continue
            tags = [numbers[tag] for tag in (columns["tags"][entry] or "").split()]
            yield {"text": columns["text"][entry] or "", "tags": np.array(tags, np.int32)}

    def locate(self, split: str, row: int) -> str:
        """Return the file and line of an example."""
        source, entries = self.splits[split]
        entry = entries[row]
        return self.sentences[source]["place"][entry] or "" if isinstance(entry, int) else entry.reason

    def _read_file(self, path: Path) -> dict[str, TextColumn]:
        """Return the sentences of a file as columns."""
        writer = ColumnWriter(Sentence._fields, text_bytes(path))
        with open_text(path, self.encoding, "\n") as (text, encoding):
            if encoding not in ("utf-8", "utf-8-sig"):
                self.notes.append(f"{printable(path)} read as {encoding}")
            for batch in batch_rows(read_sentences(text, printable(path))):
                writer.write([list(values) for values in zip(*batch, strict=True)])
        return writer.finish()


def read_sentences(lines: Iterable[str], file: str) -> Iterator[Sentence]:
    """Yield the sentences of lines with a word, and its tag in the last column; empty lines are between sentences."""
    words: list[str] = []
    tags: list[str] = []
    fault = ""
    first = 0
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if fields and fields[0] != DOCUMENT:
            first = first or number
            words.append(fields[0])
            tags.append(fields[-1])
            if len(fields) < 2:
                fault = fault or f"line {number} has no word and tag"
        elif words:
            yield Sentence(" ".join(words), " ".join(tags), f"{file} line {first}", fault)
            words, tags, fault, first = [], [], "", 0
    if words:
        yield Sentence(" ".join(words), " ".join(tags), f"{file} line {first}", fault)
