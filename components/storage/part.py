"""Part files, each one Arrow IPC file: written in record batches, read through a memory map."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from ..errors import Refusal, first_line
from ..files import atomic_path
from .column import Column
from .content import Digests, content_columns, digest_content

MIN_BATCH_BYTES = 100  # a record batch takes more even without rows
BATCH_BYTES = 64 << 20  # a record batch ends here even below its number of rows
Example = Mapping[str, Any]


# ------------------------------------------------------------------------------------------------ writing


@dataclass(frozen=True)
class PartSummary:
    """The facts about a part file that the manifest needs."""

    file: str
    rows: int
    bytes: int
    sha256: str
    class_counts: dict[int, int] | None  # {label: rows}, or None without a column "label"
    contents: Digests = field(compare=False)  # of each row
    labels: np.ndarray | None = field(compare=False)  # int64 [rows], or None without a column "label"
    faults: dict[int, str] = field(default_factory=dict)  # number of an example in the part -> why it can't be read
    remarks: dict[str, int] = field(default_factory=dict)  # what was done to examples -> number of them


@contextmanager
def write_atomically(path: Path) -> Iterator[BinaryIO]:
    """Open a file whose complete content replaces `path` on a clean exit; on an error `path` stays as it was."""
    with atomic_path(path) as draft, draft.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)  # makes the new name durable, too
    os.close(folder)


def write_part(
    path: str | Path, columns: Mapping[str, Column], examples: Iterable[Example], rows_per_batch: int = 1024
) -> PartSummary:
    """Stream `examples` into the file `path`, atomically, and return its summary.

    One record batch is in memory at a time: at most `rows_per_batch` rows, and at most BATCH_BYTES and one example.
    Refuses, with its number, an example that does not fit the columns.
    """
    path = Path(path)
    schema = pa.schema([column.to_field(name) for name, column in columns.items()])
    has_labels = "label" in columns
    content = content_columns(columns)
    contents: list[int] = []
    labels: list[int] = []
    rows = 0
    remaining = iter(examples)
    with write_atomically(path) as file:
        sink = _HashingFile(file)
        with pa.ipc.new_file(pa.PythonFile(sink, "w"), schema) as writer:
            while batch := _next_batch(columns, remaining, rows, rows_per_batch, path):
                rows += len(batch)
                arrays = [_to_arrow(column, [example[name] for example in batch]) for name, column in columns.items()]
                writer.write_batch(pa.record_batch(arrays, schema=schema))
                contents += [digest_content(example, content) for example in batch]
                if has_labels:
                    labels += [int(example["label"]) for example in batch]
    return PartSummary(
        path.name,
        rows,
        sink.bytes,
        sink.sha256.hexdigest(),
        dict(Counter(labels)) if has_labels else None,
        np.array(contents, dtype=np.uint64),
        np.array(labels, dtype=np.int64) if has_labels else None,
    )


class _HashingFile:
    """A file for writing that computes its size and SHA-256 on the way."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.sha256 = hashlib.sha256()
        self.bytes = 0

    def write(self, data: bytes) -> int:
        """Write `data` and return its number of bytes."""
        self.sha256.update(data)
        self.bytes += len(data)
        return self.file.write(data)

    def flush(self) -> None:
        """Flush the file below."""
        self.file.flush()

    def close(self) -> None:
        """Do nothing: Arrow closes its sink, but `write_atomically` still has to sync the file."""


def _next_batch(
    columns: Mapping[str, Column], remaining: Iterator[Example], first: int, rows_per_batch: int, path: Path
) -> list[Example]:
    """Return the next examples as checked arrays; `first` is the number of the first one, for error messages."""
    batch: list[Example] = []
    size = 0
    for example in itertools.islice(remaining, rows_per_batch):
        batch.append(_check_example(columns, example, f"{path.name}: example {first + len(batch)}"))
        size += sum(len(value) if isinstance(value, str) else value.nbytes for value in batch[-1].values())
        if size >= BATCH_BYTES:
            break
    return batch


def _check_example(columns: Mapping[str, Column], example: Example, place: str) -> dict[str, Any]:
    """Return the example with its numbers as contiguous arrays; refuses values that do not fit the columns."""
    if example.keys() != columns.keys():
        raise Refusal(f"{place}: has {', '.join(example)}; the data set declares {', '.join(columns)}")
    checked: dict[str, Any] = {}
    for name, column in columns.items():
        value = example[name]
        if column.dtype == "utf8":
            if not isinstance(value, str):
                raise Refusal(f"{place}: column '{name}' must be a string, not {type(value).__name__}")
        else:
            value = _to_array(value, column.dtype)
            if value.dtype != column.dtype or not column.matches(value.shape):
                raise Refusal(f"{place}: column '{name}' must be {column}, not {value.dtype}{list(value.shape)}")
        checked[name] = value
    return checked


def _to_array(value: Any, dtype: str) -> np.ndarray:
    """Convert plain Python numbers to the column's type where they fit; arrays must have it already."""
    if type(value) is int or (type(value) is float and "float" in dtype):
        try:
            return np.asarray(value, dtype)
        except OverflowError:
            pass
    return np.asarray(value, order="C")


def _to_arrow(column: Column, values: list[Any]) -> pa.Array:
    """Return the values of one record batch as the Arrow array of their column."""
    if column.dtype == "utf8":
        return pa.array(values, pa.large_utf8())
    arrow_type = column.to_field("").type
    array = pa.array(np.concatenate([value.reshape(-1) for value in values]))
    if column.inner_shape:
        row_type = arrow_type if column.has_fixed_shape else arrow_type.value_type
        array = pa.FixedSizeListArray.from_arrays(array, type=row_type)
    if column.has_fixed_shape:
        return array
    ends = np.cumsum([0, *(len(value) for value in values)], dtype=np.int64)
    return pa.LargeListArray.from_arrays(pa.array(ends), array, type=arrow_type)


# ------------------------------------------------------------------------------------------------ reading


class Part:
    """A memory-mapped part file.

    `take` gathers any rows of a fixed-shape column in one step, whatever record batches hold them.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise Refusal(f"{path}: this part is missing; run the prepare stage again (dvc repro)")
        with self._refusing_damage():
            file = pa.memory_map(str(path))
            self.bytes = np.frombuffer(file.read_buffer(), np.uint8)
            reader = pa.ipc.open_file(file)
            self.columns = {field.name: _checked_column(field) for field in reader.schema}
            if reader.num_record_batches * MIN_BATCH_BYTES > self.bytes.size:
                raise ValueError(f"{reader.num_record_batches:,} record batches in {self.bytes.size:,} bytes")
            self.batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
            for batch in self.batches:
                batch.validate()
                self._check_buffers(batch)
        self.ends = np.cumsum([0, *(batch.num_rows for batch in self.batches)])
        self.rows = int(self.ends[-1])
        self._origins: dict[str, np.ndarray] = {}
        self._ragged: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}

    def validate(self) -> None:
        """Read all values; refuse a text that is not UTF-8, and ends of ragged rows that are out of order."""
        with self._refusing_damage():
            for batch in self.batches:
                batch.validate(full=True)

    def _check_buffers(self, batch: pa.RecordBatch) -> None:
        """Raise ValueError for missing values, and for buffers outside the file, such as compressed ones.

        `take` computes addresses within the file, so such a buffer would make it read any memory.
        """
        start = self.bytes.ctypes.data
        end = start + self.bytes.size
        for column in batch.columns:
            if column.null_count:
                raise ValueError(f"{column.null_count} missing values")
            for buffer in column.buffers():
                if buffer is not None and buffer.size and not start <= buffer.address <= end - buffer.size:
                    raise ValueError("compressed")

    @contextmanager
    def _refusing_damage(self) -> Iterator[None]:
        """Turn the errors of a damaged file into a refusal."""
        try:
            yield
        except (
            pa.ArrowException,
            OSError,
            ValueError,
            LookupError,
            TypeError,
            RuntimeError,
            MemoryError,
            Refusal,
        ) as error:
            raise Refusal(
                f"{self.path}: damaged, or not a part file ({first_line(error)});"
                " run the prepare stage again (dvc repro)"
            ) from None

    def arrays(self, name: str) -> list[np.ndarray]:
        """Return a fixed-shape column as read-only views [rows, ...], one per record batch."""
        shape = self.columns[name].inner_shape
        return [_flat_numbers(batch.column(name)).reshape(-1, *shape) for batch in self.batches]

    def take(self, name: str, rows: np.ndarray) -> Any:
        """Return the column at `rows` (int64 [B]): an array [B, ...], or a list of B arrays or strings."""
        if len(self.batches) > 1:
            batch_numbers = np.searchsorted(self.ends, rows, side="right") - 1
        else:
            batch_numbers = np.zeros_like(rows)
        column = self.columns[name]
        if not column.has_fixed_shape:
            pairs = zip(batch_numbers.tolist(), (rows - self.ends[batch_numbers]).tolist(), strict=True)
            return [self._ragged_row(name, batch, row) for batch, row in pairs]
        if not rows.size:
            return column.allocate(0)
        # View the file as an array of overlapping rows, one starting at each byte: gathering is then plain indexing.
        width = math.prod(column.inner_shape) * np.dtype(column.dtype).itemsize
        windows = np.ndarray((self.bytes.size - width + 1,), f"V{width}", self.bytes, strides=(1,))
        values = windows[self._batch_origins(name, width)[batch_numbers] + rows * width]
        return values.view(column.dtype).reshape(len(rows), *column.inner_shape)

    def _batch_origins(self, name: str, width: int) -> np.ndarray:
        """Return, per record batch, the byte where row 0 of the part would start if all rows adjoined that batch."""
        if name not in self._origins:
            base = self.bytes.ctypes.data
            starts = [_flat_numbers(batch.column(name)).ctypes.data - base for batch in self.batches]
            self._origins[name] = np.array(starts, dtype=np.int64) - self.ends[:-1] * width
        return self._origins[name]

    def _ragged_row(self, name: str, batch: int, row: int) -> Any:
        """Return one value of a ragged or string column; `row` counts within the record batch."""
        column = self.columns[name]
        if name not in self._ragged:
            self._ragged[name] = [_ragged_buffers(batch.column(name), column) for batch in self.batches]
        ends, values = self._ragged[name][batch]
        value = values[ends[row] : ends[row + 1]]
        if column.dtype != "utf8":
            return value.copy()
        with self._refusing_damage():
            return value.tobytes().decode()


def _checked_column(field: pa.Field) -> Column:
    """Return the column of a field; raise ValueError if the field's type is not the one that stores the column."""
    column = Column.from_field(field)
    if column.to_field(field.name).type != field.type:
        raise ValueError(f"column '{field.name}' is {column}, but stored as {field.type}")
    return column


def _flat_numbers(array: pa.Array) -> np.ndarray:
    """Return the numbers inside (lists of) lists, flat, as a view."""
    while isinstance(array, pa.LargeListArray | pa.FixedSizeListArray):
        array = array.values
    return array.to_numpy(zero_copy_only=True)


def _ragged_buffers(array: pa.Array, column: Column) -> tuple[np.ndarray, np.ndarray]:
    """Return (ends int64 [rows + 1], values [total, ...]) as views; the values of strings are UTF-8 bytes."""
    _, ends, data = array.buffers()[:3]
    values = np.frombuffer(data or b"", np.uint8) if column.dtype == "utf8" else _flat_numbers(array)
    return np.frombuffer(ends or b"", np.int64)[: len(array) + 1], values.reshape(-1, *column.inner_shape)
