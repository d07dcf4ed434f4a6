"""Columns of texts that are not in memory: record batches on disk, of which a few are looked at at a time."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar, overload

import numpy as np
import pyarrow as pa
from pyarrow import ipc

from ..workspace import work_folder

BATCH_ROWS, BATCH_LETTERS = 4096, 1 << 20  # of rows that are written together
SPILL = 32 << 20  # bytes of a source from which its columns go to a file
Text = str | None
Row = TypeVar("Row", bound=Sequence[Text])


class StoredTable:
    """The record batches of an Arrow file, each opened when it is asked for: open ones take memory per column."""

    def __init__(self, reader: ipc.RecordBatchFileReader, rows: Sequence[int]) -> None:
        self.reader = reader
        self.ends = np.cumsum(rows)  # the number of rows up to the end of each batch

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def read_texts(self, number: int, place: int) -> list[Text]:
        """Return the values that a batch has in the column at `place`."""
        texts: list[Text] = self.reader.get_batch(number).column(place).to_pylist()
        return texts


class TextColumn(Sequence[Text]):
    """The values of a column, None where a row has none; memory holds one batch of them as Python's texts.

    parts: tables that follow each other, and the column's place in each.
    """

    def __init__(self, parts: Sequence[tuple[StoredTable, int]]) -> None:
        self.parts = list(parts)
        self.starts = np.cumsum([0, *(len(table) for table, _ in self.parts)])
        self.batch, self.values = (-1, -1), list[Text]()

    def __len__(self) -> int:
        return int(self.starts[-1])

    @overload
    def __getitem__(self, key: int) -> Text: ...
    @overload
    def __getitem__(self, key: slice) -> list[Text]: ...
    def __getitem__(self, key: int | slice) -> Text | list[Text]:
        if isinstance(key, slice):
            return [self[row] for row in range(*key.indices(len(self)))]
        row = key + len(self) if key < 0 else key
        if not 0 <= row < len(self):
            raise IndexError(key)
        part = int(np.searchsorted(self.starts, row, side="right")) - 1
        table, place = self.parts[part]
        row -= int(self.starts[part])
        number = int(np.searchsorted(table.ends, row, side="right"))
        if (part, number) != self.batch:
            self.batch, self.values = (part, number), table.read_texts(number, place)
        return self.values[row - int(table.ends[number]) + len(self.values)]

    def __iter__(self) -> Iterator[Text]:
        for table, place in self.parts:
            for number in range(len(table.ends)):
                yield from table.read_texts(number, place)


class StrippedColumn(Sequence[str]):
    """The values of a column without spaces around them, "" where a row has none."""

    def __init__(self, column: Sequence[Text]) -> None:
        self.column = column

    def __len__(self) -> int:
        return len(self.column)

    @overload
    def __getitem__(self, key: int) -> str: ...
    @overload
    def __getitem__(self, key: slice) -> list[str]: ...
    def __getitem__(self, key: int | slice) -> str | list[str]:
        if isinstance(key, slice):
            return [(value or "").strip() for value in self.column[key]]
        return (self.column[key] or "").strip()

    def __iter__(self) -> Iterator[str]:
        return ((value or "").strip() for value in self.column)


class StrippedRows(Sequence[list[str]]):
    """The values of several columns per row, as in a StrippedColumn each."""

    def __init__(self, columns: Iterable[Sequence[Text]]) -> None:
        self.columns = [StrippedColumn(column) for column in columns]

    def __len__(self) -> int:
        return len(self.columns[0])

    @overload
    def __getitem__(self, key: int) -> list[str]: ...
    @overload
    def __getitem__(self, key: slice) -> list[list[str]]: ...
    def __getitem__(self, key: int | slice) -> list[str] | list[list[str]]:
        if isinstance(key, slice):
            return [self[row] for row in range(*key.indices(len(self)))]
        return [column[key] for column in self.columns]

    def __iter__(self) -> Iterator[list[str]]:
        return map(list, zip(*self.columns, strict=True))


def join_columns(columns: Iterable[TextColumn]) -> TextColumn:
    """Return the values of several columns, one after the other."""
    return TextColumn([part for column in columns for part in column.parts])


def batch_rows(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Yield the next rows as lists: at most BATCH_ROWS, and no more once they have BATCH_LETTERS letters."""
    batch: list[Row] = []
    letters = 0
    for row in rows:
        batch.append(row)
        letters += sum(len(text or "") for text in row)
        if len(batch) == BATCH_ROWS or letters >= BATCH_LETTERS:
            yield batch
            batch, letters = [], 0
    if batch:
        yield batch


class ColumnWriter:
    """Write batches of texts to memory or, of a source of more than SPILL bytes, to a file without a name."""

    def __init__(self, names: Sequence[str], source_bytes: int) -> None:
        self.schema = pa.schema([(name, pa.string()) for name in names])
        self.file: Any = None
        if source_bytes > SPILL:
            work_folder().mkdir(parents=True, exist_ok=True)
            self.file = tempfile.TemporaryFile(dir=work_folder())  # noqa: SIM115  (it lives as long as the columns)
        self.sink = pa.BufferOutputStream() if self.file is None else pa.PythonFile(self.file, mode="w")
        self.writer = ipc.new_file(self.sink, self.schema)
        self.rows: list[int] = []  # of each batch

    def write(self, columns: Sequence[pa.Array | Sequence[Text]]) -> None:
        """Append rows, given as one array or list of texts per column."""
        arrays = [values if isinstance(values, pa.Array) else pa.array(values, pa.string()) for values in columns]
        batch = pa.record_batch(arrays, schema=self.schema)
        self.writer.write_batch(batch)
        self.rows.append(batch.num_rows)

    def finish(self) -> dict[str, TextColumn]:
        """Return the columns of all rows."""
        self.writer.close()
        if self.file is None:
            buffer = self.sink.getvalue()
        else:
            self.file.flush()
            buffer = pa.py_buffer(mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ))
        table = StoredTable(ipc.open_file(buffer), self.rows)
        return {name: TextColumn([(table, place)]) for place, name in enumerate(self.schema.names)}
