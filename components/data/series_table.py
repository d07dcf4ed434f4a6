"""Your own table of numbers over time: CSV, TSV, Parquet or JSON lines, one row per moment.

    power.csv: date,load,temperature       predict `horizon` rows of some columns from `window` rows of all

The table is cut by time, never shuffled: first training, then validation, then testing. No window reaches over a cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import Refusal, printable
from ..recipes.ranges import Count, Open
from .table import Table, TableFormat, is_number, read_table
from .table_rows import Shares
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
        self.gaps = 0

    @cached_property
    def table(self) -> Table:
        """Return the file; refuses rows that do not fit, because a gap in time would not be noticed."""
        table = read_table(self.file, self.form)
        if table.faults:
            raise Refusal(f"{'; '.join(table.faults[:MOST_NAMED])}; correct the table")
        if self.time is not None:
            self._check_time(table.column(self.time, "time"))
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
        """Return the columns that are predicted."""
        return self.names if self.target_columns is None else self.target_columns

    @property
    def columns(self) -> dict[str, Any]:
        """Return the columns of the prepared rows."""
        return window_columns(self.window, len(self.names), self.horizon, len(self.classes))

    @cached_property
    def values(self) -> np.ndarray:
        """Return the numbers, float32 [rows, columns]; refuses values that are not finite numbers."""
        columns = [self._read_numbers(name) for name in self.names]
        return np.stack(columns, 1).astype(np.float32)

    @cached_property
    def lengths(self) -> dict[str, int]:
        """Return {split: its rows}."""
        rows = len(self.values)
        held_out = {"validation": round(self.shares.validation * rows), "test": round(self.shares.test * rows)}
        lengths = {"train": rows - sum(held_out.values()), **held_out}
        check_lengths(lengths, self.window, self.horizon)
        return lengths

    @property
    def notes(self) -> list[str]:
        """Return what is odd about the file."""
        _ = self.values
        gaps = [f"{self.gaps:,} empty values replaced by those above them (missing: previous)"] if self.gaps else []
        return self.table.notes + gaps

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}."""
        return {name: -(-self._count(name) // ROWS_PER_PART) for name in self.lengths}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the windows of one part in the order of time."""
        names = list(self.lengths)
        first = sum(self.lengths[name] for name in names[: names.index(split)])
        targets = [self.names.index(name) for name in self.classes]
        values = self.values[first : first + self.lengths[split]]
        windows = range(part * ROWS_PER_PART, min((part + 1) * ROWS_PER_PART, self._count(split)))
        return cut_windows(values, targets, self.window, self.horizon, self.stride, first, windows)

    def _count(self, split: str) -> int:
        return count_windows(self.lengths[split], self.window, self.horizon, self.stride)

    def _read_numbers(self, name: str) -> np.ndarray:
        """Return a column as float64 [rows]."""
        texts = self.table.column(name, "columns")
        values = np.array([float(text or "nan") if is_number(text) else np.nan for text in texts])
        empty = np.array([not (text or "").strip() or (text or "").strip().lower() in ("na", "nan") for text in texts])
        wrong = np.flatnonzero(~np.isfinite(values) & ~empty)
        if len(wrong):
            listed = ", ".join(f"row {row + 1}: '{texts[row]}'" for row in wrong[:MOST_NAMED])
            raise Refusal(f"{printable(self.file)}: column '{name}' holds no number in {listed}; correct the table")
        gaps = np.flatnonzero(empty)
        if len(gaps) and (self.missing == "refuse" or gaps[0] == 0):
            raise Refusal(
                f"{printable(self.file)}: column '{name}' is empty in {len(gaps):,} rows, first in row {gaps[0] + 1};"
                " fill it, leave it out of columns, or set missing: previous"
            )
        for row in gaps:
            values[row] = values[row - 1]
        self.gaps += len(gaps)
        return values

    def _check_time(self, texts: list[str | None]) -> None:
        """Refuse times that do not rise from row to row."""
        times = [read_time(text) for text in texts]
        if any(time is None for time in times):
            row = times.index(None)
            raise Refusal(f"time: row {row + 1} has '{texts[row]}', neither a number nor an ISO date; correct it")
        for row in range(1, len(times)):
            if times[row] <= times[row - 1]:  # type: ignore[operator]
                raise Refusal(
                    f"time: row {row + 1} ('{texts[row]}') is not later than the row before; sort the table by it"
                )


def read_time(text: str | None) -> float | None:
    """Return a number, or the seconds of an ISO date; None for any other text."""
    if is_number(text):
        return float(text or "")
    try:
        moment = datetime.fromisoformat((text or "").strip())
    except ValueError:
        return None
    return moment.timestamp()
