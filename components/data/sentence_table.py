"""Your own sentences, or pairs of them, with a class or a score, as a table: CSV, TSV, Parquet or JSON lines.

    pairs.csv: first,second,label           data: {file: pairs.csv, text: first, pair: second, label: label}
    rated.tsv: sentence, stars              data: {file: rated.tsv, text: sentence, score: stars}

For fine-tuning of a model that brings its tokenizer: the texts stay as they are. Splits are those of
`data.text_table.TextTable`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from ..errors import Refusal
from ..recipes.ranges import Count, Fraction, Natural
from ..storage.dataset import Fault
from ..storage.store import Column
from .dialect import is_finite_number
from .table import TableFormat
from .table_rows import Entries, Shares, TableFiles, describe_repeated, list_classes
from .text_columns import StrippedColumn

ROWS_PER_PART = 16384
MOST_CLASSES = 100


class SentenceTable:
    """Columns "text" and, with `pair`, "pair": strings; and "label", or "score", float32.

    text, pair: columns of the table; label: the one with the class, or score: the one with a number
    limit: number of training examples to use, evenly spaced (None: all)
    The other arguments are those of `data.text_table.TextTable`.
    """

    licence = "the owner's"

    def __init__(
        self,
        file: str,
        text: str,
        pair: str | None = None,
        label: str | None = None,
        score: str | None = None,
        validation_file: str | None = None,
        test_file: str | None = None,
        split: str | None = None,
        group: str | None = None,
        limit: Count | None = None,
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
        if (label is None) == (score is None):
            raise Refusal("label: name the column with the class as label, or the one with a number as score")
        form = TableFormat(delimiter, header, quoting, encoding)
        self.files = TableFiles.of_splits(file, validation_file, test_file, form)
        self.own = self.files.paths
        self.has_validation = validation_file is not None or split is not None
        self.name = Path(file).stem
        self.source = file
        self.text_columns = {"text": text} | ({"pair": pair} if pair else {})
        self.target = "score" if label is None else "label"
        self.target_column = label or score or ""
        self.split_column = split
        self.group_column = group
        self.limit = limit
        self.shares = Shares(test, validation, seed)
        self.bad = bad
        self.duplicates = duplicates
        self.conflicts = conflicts
        self.columns = {name: Column("utf8") for name in self.text_columns}
        self.columns[self.target] = Column("float32" if label is None else "int64")

    @cached_property
    def texts(self) -> dict[str, Sequence[str]]:
        """Return {"text" and "pair": their values in all rows}; "" where there is none."""
        return {name: self._values(column, name) for name, column in self.text_columns.items()}

    @cached_property
    def targets(self) -> Sequence[str]:
        """Return the classes or scores of all rows as they are written; "" where there is none."""
        return self._values(self.target_column, self.target)

    @cached_property
    def classes(self) -> list[str]:
        """Return the names of the classes in rows with a text; [] for scores."""
        if self.target == "score":
            return []
        classes = list_classes(label for text, label in zip(self.texts["text"], self.targets, strict=True) if text)
        if not 2 <= len(classes) <= MOST_CLASSES:
            raise Refusal(
                f"label: column '{self.target_column}' has {len(classes):,} different values, not 2 to {MOST_CLASSES}"
                " classes; name another column, or name it as score"
            )
        return classes

    @cached_property
    def splits(self) -> dict[str, Entries]:
        """Return {split: its rows and faults}."""
        groups = [self._values(self.group_column, "group")] if self.group_column else list(self.texts.values())

        def draw_key(row: int) -> bytes:
            return "\t".join(values[row] for values in groups).encode()

        splits = self.files.split(self._find_fault, draw_key, self.shares, self.split_column)
        return splits | {"train": splits["train"].sample(self.limit)}

    def _find_fault(self, row: int) -> str | None:
        """Return why a row cannot be used, or None."""
        for name, column in self.text_columns.items():
            if not self.texts[name][row]:
                return f"no text in column '{column}'"
        value = self.targets[row]
        if not value:
            return f"no {self.target} in column '{self.target_column}'"
        if self.target == "score" and not is_finite_number(value):
            return f"{value[:30]!r} in column '{self.target_column}' is not a number"
        return None

    @property
    def notes(self) -> list[str]:
        """Return what is odd about the files, and how many rows repeat an earlier one."""
        return self.files.notes + describe_repeated(*self.texts.values(), self.targets)

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}."""
        return {split: -(-len(entries) // ROWS_PER_PART) for split, entries in self.splits.items()}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any] | Fault]:
        """Yield the rows of one part in the order of the file."""
        numbers = {name: number for number, name in enumerate(self.classes)}
        for entry in self.splits[split][part * ROWS_PER_PART : (part + 1) * ROWS_PER_PART]:
            if isinstance(entry, Fault):
                yield entry
                continue
            value = self.targets[entry]
            target = float(value) if self.target == "score" else numbers[value]
            yield {name: texts[entry] for name, texts in self.texts.items()} | {self.target: target}

    def locate(self, split: str, row: int) -> str:
        """Return the file and row of an example."""
        entry = self.splits[split][row]
        return self.files.locate(entry) if isinstance(entry, int) else entry.reason

    def _values(self, column: str, argument: str) -> Sequence[str]:
        return StrippedColumn(self.files.column(column, argument))
