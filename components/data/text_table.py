"""Your own texts with a label, as a table: CSV, TSV, Parquet or JSON lines.

    mails.csv: label,text                                         test and validation rows are drawn by `seed`
    train.tsv, dev.tsv, test.tsv: label, sentence                 splits are files (`validation_file`, `test_file`)
    mails.parquet: text, label, split                             splits are values of the column `split`
    train-*.parquet: text, label                                  one table in several files

A drawn split depends on the text alone, or on the value of the column `group`. Repeated rows are therefore in one
split, and a row keeps its split when others join or leave.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import Refusal, pluralize
from ..recipes.ranges import Count, Fraction, Natural
from ..storage.dataset import Fault
from ..storage.store import Column
from ..storage.vocabulary import PAD, SPECIAL, UNKNOWN
from ..tokens.tokenizer import Tokenizer, TokenizerTrainer
from ..tokens.vocabulary import TokenKind
from .table import TableFormat
from .table_rows import Entries, Shares, TableFiles, describe_repeated, list_classes, text_key
from .text import make_trainer
from .text_columns import StrippedColumn

ROWS_PER_PART = 65536
MARKS = (SPECIAL[PAD], UNKNOWN)  # numbers 0 and 1


class TextTable:
    """Texts as column "token", int32 [length], padded with 0, and their classes as "label".

    Column "key", int64, is a hash of the text: two texts that differ only beyond `length` are not the same example.

    text, label: columns of the table
    tokens: char, word (words and marks in lower case), or a section such as `{use: tokens.wordpiece.WordPiece}`
    length: tokens per row; a longer text is cut, and the cut ones are counted
    min_count: occurrences in the training split below which a character or a word is unknown
    test, validation: approximate shares of the rows, where neither a file nor the column `split` says it
    group: column whose equal values must be in one split, such as an author
    delimiter, header, quoting, encoding: how the file is written (None: found out)
    bad: what happens to rows without a text or a label, or with too many values
    duplicates, conflicts: what happens to a text in two splits, or with two labels
    """

    licence = "the owner's"

    def __init__(
        self,
        file: str,
        text: str,
        label: str,
        validation_file: str | None = None,
        test_file: str | None = None,
        split: str | None = None,
        group: str | None = None,
        tokens: TokenKind | Callable[..., TokenizerTrainer] = "word",
        length: Count = 64,
        min_count: Count = 1,
        test: Fraction = 0.2,
        validation: Fraction = 0.0,
        seed: Natural = 0,
        delimiter: str | None = None,
        header: bool | None = None,
        quoting: bool | None = None,
        encoding: str | None = None,
        bad: Literal["refuse", "skip"] = "refuse",
        duplicates: Literal["refuse", "drop", "allow"] = "drop",
        conflicts: Literal["refuse", "drop", "allow"] = "refuse",
    ) -> None:
        form = TableFormat(delimiter, header, quoting, encoding)
        self.files = TableFiles.of_splits(file, validation_file, test_file, form)
        self.own = self.files.paths
        self.has_validation = validation_file is not None or split is not None
        self.name = Path(file).stem
        self.source = file
        self.text_column = text
        self.label_column = label
        self.split_column = split
        self.group_column = group
        self.splits_words = tokens == "word"
        self.trainer = make_trainer(tokens, min_count)
        self.length = length
        self.shares = Shares(test, validation, seed)
        self.bad = bad
        self.duplicates = duplicates
        self.conflicts = conflicts
        self.remarks: Counter[str] = Counter()
        self.columns = text_columns(length)

    @cached_property
    def texts(self) -> Sequence[str]:
        """Return the texts of all rows; "" where there is none."""
        return StrippedColumn(self.files.column(self.text_column, "text"))

    @cached_property
    def labels(self) -> Sequence[str]:
        """Return the names of the classes of all rows; "" where there is none."""
        return StrippedColumn(self.files.column(self.label_column, "label"))

    @cached_property
    def classes(self) -> list[str]:
        """Return the names of the classes in the rows that can be used."""
        classes = list_classes({label for text, label in zip(self.texts, self.labels, strict=True) if text})
        if len(classes) < 2:
            raise Refusal(f"label: column '{self.label_column}' has {len(classes)} different values; 2 are needed")
        if len(classes) > max(100, len(self.labels) // 5):
            raise Refusal(
                f"label: column '{self.label_column}' has {len(classes):,} different values in {len(self.labels):,}"
                " rows, which are hardly classes; name another column"
            )
        return classes

    @cached_property
    def splits(self) -> dict[str, Entries]:
        """Return {split: its rows and faults}."""
        groups: Sequence[str | None] = self.texts
        if self.group_column:
            groups = self.files.column(self.group_column, "group")

        def check_row(row: int) -> str | None:
            if not self.texts[row]:
                return f"no text in column '{self.text_column}'"
            return None if self.labels[row] else f"no label in column '{self.label_column}'"

        return self.files.split(check_row, lambda row: (groups[row] or "").encode(), self.shares, self.split_column)

    @property
    def notes(self) -> list[str]:
        """Return what is odd about the files, and how many rows repeat an earlier one."""
        return self.files.notes + describe_repeated(self.texts, self.labels)

    @cached_property
    def tokenizers(self) -> dict[str, Tokenizer]:
        """Return {"token": the tokenizer}, trained on the training split alone."""
        return {"token": self.trainer.train(TrainingTexts(self), MARKS)}

    def clean(self, row: int) -> str:
        """Return a text as the tokenizer reads it."""
        return split_words(self.texts[row]) if self.splits_words else self.texts[row]

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}."""
        return {split: -(-len(entries) // ROWS_PER_PART) for split, entries in self.splits.items()}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any] | Fault]:
        """Yield the rows of one part in the order of the file."""
        labels = {name: number for number, name in enumerate(self.classes)}
        for entry in self.splits[split][part * ROWS_PER_PART : (part + 1) * ROWS_PER_PART]:
            if isinstance(entry, Fault):
                yield entry
                continue
            tokens = self.tokenizers["token"].encode(self.clean(entry))
            if len(tokens) > self.length:
                self.remarks[f"are longer than {pluralize(self.length, 'token')} and are cut (length)"] += 1
            yield {
                "token": pad_tokens(tokens, self.length),
                "key": text_key(self.texts[entry]),
                "label": labels[self.labels[entry]],
            }

    def locate(self, split: str, row: int) -> str:
        """Return the file and row of an example."""
        entry = self.splits[split][row]
        return self.files.locate(entry) if isinstance(entry, int) else entry.reason


class TrainingTexts:
    """The texts of the training split as the tokenizer reads them, as often as it asks for them."""

    def __init__(self, table: TextTable) -> None:
        self.table = table

    def __iter__(self) -> Iterator[str]:
        return (self.table.clean(entry) for entry in self.table.splits["train"] if isinstance(entry, int))


def text_columns(length: int) -> dict[str, Column]:
    """Return the columns of texts of so many tokens."""
    return {"token": Column("int32", (length,)), "key": Column("int64"), "label": Column("int64")}


def pad_tokens(tokens: np.ndarray, length: int) -> np.ndarray:
    """Return the first `length` tokens, followed by padding: int32 [length]."""
    row = np.full(length, PAD, dtype=np.int32)
    row[: len(tokens)] = tokens[:length]
    return row


def split_words(text: str) -> str:
    """Return a text in lower case with a space between words and marks."""
    return " ".join(re.findall(r"\w+|[^\w\s]", text.lower()))
