"""Columns of texts that are not in memory: record batches on disk, of which a few are looked at at a time."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
import pyarrow as pa
from pyarrow import ipc

from ..workspace import work_folder

SPILL = 32 << 20  # bytes of a source from which its columns go to a file
Text = str | None


class TextColumn(Sequence[Text]):
    """The values of a column, None where a row has none; memory holds one batch of them as Python's texts."""

    def __init__(self, batches: Sequence[pa.Array]) -> None:
        self.batches = list(batches)
        self.ends = np.cumsum([len(batch) for batch in self.batches])
        self.number, self.values = -1, list[Text]()

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

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
        number = int(np.searchsorted(self.ends, row, side="right"))
        if number != self.number:
            self.number, self.values = number, self.batches[number].to_pylist()
        return self.values[row - int(self.ends[number]) + len(self.values)]

    def __iter__(self) -> Iterator[Text]:
        for batch in self.batches:
            yield from batch.to_pylist()


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
    return TextColumn([batch for column in columns for batch in column.batches])


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

    def write(self, columns: Sequence[pa.Array | Sequence[Text]]) -> None:
        """Append rows, given as one array or list of texts per column."""
        arrays = [values if isinstance(values, pa.Array) else pa.array(values, pa.string()) for values in columns]
        self.writer.write_batch(pa.record_batch(arrays, schema=self.schema))

    def finish(self) -> dict[str, TextColumn]:
        """Return the columns of all rows."""
        self.writer.close()
        if self.file is None:
            buffer = self.sink.getvalue()
        else:
            self.file.flush()
            buffer = pa.py_buffer(mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ))
        reader = ipc.open_file(buffer)
        batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        return {
            name: TextColumn([batch.column(place) for batch in batches]) for place, name in enumerate(self.schema.names)
        }
