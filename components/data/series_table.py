"""Your own table of numbers over time: CSV, TSV, Parquet or JSON lines, one row per moment.

    power.csv: date,load,temperature       predict `horizon` rows of some columns from `window` rows of all

The table is cut by time, never shuffled: first training, then validation, then testing. No window reaches over a cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import Refusal, pluralize, printable
from ..recipes.ranges import Count, Open
from .dialect import is_finite_number, is_number
from .table import Table, TableFormat, read_table
from .table_rows import Shares
from .text_columns import TextColumn
from .windows import check_lengths, count_windows, cut_windows, window_columns

ROWS_PER_PART = 4096
MOST_NAMED = 5  # rows in an error line


class SeriesTable:
    """Windows of a table: x float32 [window, columns], y float32 [horizon, targets], and `time`, the row of y[0].

    columns: those to read from (None: all that hold numbers in every row)
    targets: those to predict, some of `columns` (None: all)
    time: column of dates or numbers that must rise from row to row (None: the rows are in order)
    stride: rows from one window to the next
    validation, test: shares of the rows, at the end
    missing: what happens to empty values; previous repeats the value above, and counts them
    """

    licence = "the owner's"

    def __init__(
        self,
        file: str,
        columns: list[str] | None = None,
        targets: list[str] | None = None,
        time: str | None = None,
        window: Count = 48,
        horizon: Count = 12,
        stride: Count = 1,
        validation: Open = 0.15,
        test: Open = 0.2,
        missing: Literal["refuse", "previous"] = "refuse",
        delimiter: str | None = None,
        header: bool | None = None,
        encoding: str | None = None,
    ) -> None:
        self.file = Path(file)
        if not self.file.is_file():
            raise Refusal(f"file: {printable(file)} is not a file; name a table")
        unknown = sorted(set(targets or []) - set(columns or targets or []))
        if unknown:
            raise Refusal(f"targets: '{unknown[0]}' is not one of columns; add it there")
        self.own = [self.file]
        self.name = self.file.stem
        self.source = file
        self.read_columns = columns
        self.target_columns = targets
        self.time = time
        self.window = window
        self.horizon = horizon
        self.stride = stride
        self.shares = Shares(test, validation, 0)
        self.missing = missing
        self.form = TableFormat(delimiter, header, None, encoding)

    @cached_property
    def table(self) -> Table:
        """Return the file; refuses rows that do not fit, because a gap in time would not be noticed."""
        table = read_table(self.file, self.form)
        if table.faults:
            raise Refusal(f"{'; '.join(table.faults[:MOST_NAMED])}; correct the table")
        if self.time is not None:
            self._check_time(table, table.column(self.time, "time"))
        return table

    @cached_property
    def names(self) -> list[str]:
        """Return the columns that are read."""
        if self.read_columns is not None:
            return self.read_columns
        names = [
            name
            for name, values in self.table.columns.items()
            if name != self.time and all(is_number(value) or not value for value in values) and any(values)
        ]
        if not names:
            raise Refusal(f"{printable(self.file)}: no column holds numbers alone; name some as columns")
        return names

    @cached_property
    def classes(self) -> list[str]:
        """Return the columns that are predicted; refuses one that is not read."""
        for name in self.target_columns or []:
            if name not in self.names:
                self.table.column(name, "targets")
                raise Refusal(f"targets: column '{name}' is the time or does not hold numbers alone; leave it out")
        return self.names if self.target_columns is None else self.target_columns

    @property
    def columns(self) -> dict[str, Any]:
        """Return the columns of the prepared rows."""
        return window_columns(self.window, len(self.names), self.horizon, len(self.classes))

    @cached_property
    def gaps(self) -> int:
        """Return the number of empty values; refuses values that are not finite numbers."""
        return sum(self._count_gaps(name) for name in self.names)

    @cached_property
    def lengths(self) -> dict[str, int]:
        """Return {split: its rows}."""
        _ = self.gaps, self.classes
        rows = self.table.rows
        held_out = {"validation": round(self.shares.validation * rows), "test": round(self.shares.test * rows)}
        lengths = {"train": rows - sum(held_out.values()), **held_out}
        check_lengths(lengths, self.window, self.horizon)
        return lengths

    @property
    def notes(self) -> list[str]:
        """Return what is odd about the file."""
        if not self.gaps:
            return self.table.notes
        values = pluralize(self.gaps, "empty value")
        return [*self.table.notes, f"{values} replaced by those above them (missing: previous)"]

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}."""
        return {name: -(-self._count(name) // ROWS_PER_PART) for name in self.lengths}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the windows of one part in the order of time."""
        names = list(self.lengths)
        first = sum(self.lengths[name] for name in names[: names.index(split)])
        targets = [self.names.index(name) for name in self.classes]
        windows = range(part * ROWS_PER_PART, min((part + 1) * ROWS_PER_PART, self._count(split)))
        start, end = windows[0] * self.stride, windows[-1] * self.stride + self.window + self.horizon
        columns = [self.read_numbers(name, first + start, first + end) for name in self.names]
        values = np.stack(columns, 1).astype(np.float32)
        windows = range(len(windows))
        return cut_windows(values, targets, self.window, self.horizon, self.stride, first + start, windows)

    def _count(self, split: str) -> int:
        return count_windows(self.lengths[split], self.window, self.horizon, self.stride)

    def _count_gaps(self, name: str) -> int:
        """Return the number of empty values of a column; refuses values that are neither numbers nor empty."""
        wrong: list[str] = []
        gaps: list[int] = []
        count = 0
        for row, text in enumerate(self.table.column(name, "columns")):
            if is_gap(text):
                count += 1
                gaps = gaps or [row]
            elif not is_finite_number(text) and len(wrong) < MOST_NAMED:
                wrong.append(f"row {self.table.number(row)}: '{text}'")
        if wrong:
            raise Refusal(
                f"{printable(self.file)}: column '{name}' holds no number in {', '.join(wrong)}; correct the table"
            )
        if gaps and (self.missing == "refuse" or gaps[0] == 0):
            raise Refusal(
                f"{printable(self.file)}: column '{name}' is empty in {pluralize(count, 'row')},"
                f" first in row {self.table.number(gaps[0])}; fill it, leave it out of columns,"
                " or set missing: previous"
            )
        return count

    def read_numbers(self, name: str, start: int, end: int) -> np.ndarray:
        """Return the values of a column in rows `start` to `end`, float64; an empty one is that above it."""
        column = self.table.column(name, "columns")
        skipped = 0
        while is_gap(column[start]):  # the first row has a value
            start, skipped = start - 1, skipped + 1
        texts = column[start:end]
        for row in range(1, len(texts)):
            if is_gap(texts[row]):
                texts[row] = texts[row - 1]
        return np.array([float(text or "") for text in texts])[skipped:]

    def _check_time(self, table: Table, texts: TextColumn) -> None:
        """Refuse times that do not rise from row to row."""
        previous = -np.inf
        for row, text in enumerate(texts):
            time = read_time(text)
            if time is None:
                fault = f"has '{text}', neither a number nor an ISO date; correct it"
                raise Refusal(f"time: row {table.number(row)} {fault}")
            if not time > previous:
                fault = f"('{text}') is not later than the row before; sort the table by it"
                raise Refusal(f"time: row {table.number(row)} {fault}")
            previous = time


def is_gap(text: str | None) -> bool:
    """Return whether a value is empty."""
    return not (text or "").strip() or (text or "").strip().lower() in ("na", "nan")


def read_time(text: str | None) -> float | None:
    """Return a number, or the seconds of an ISO date; None for any other text.

    A date without a zone is in UTC: in this machine's zone, hours that a clock skips would coincide with others.
    """
    if is_number(text):
        return float(text or "")
    try:
        moment = datetime.fromisoformat((text or "").strip())
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
