"""One Arrow IPC file: written in record batches, read through a memory map.

A column of shape [H, W, C] is a fixed-size list of H*W*C numbers, one of shape [] a plain number, a ragged one
[None, 4] a list of fixed-size lists, `utf8` a string; each field's metadata holds the shape. Any reader opens them.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from ..errors import Refusal, first_line, suggest_name
from ..files import atomic_path

BATCH_BYTES = 64 << 20  # a record batch is cut here even below its number of rows
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64")
Example = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A number type of DTYPES with a shape, its first dimension None where it differs by row; or "utf8", ()."""

    dtype: str
    shape: tuple[int | None, ...] = ()

    def __post_init__(self) -> None:
        if self.dtype not in (*DTYPES, "utf8"):
            known = (*DTYPES, "utf8")
            meant = suggest_name(self.dtype, known)
            raise Refusal(f"column dtype '{self.dtype}' can't be stored{meant}; use one of {', '.join(known)}")
        if (
            None in self.shape[1:]
            or any(side < 1 for side in self.inner_shape)
            or (self.dtype == "utf8" and self.shape)
        ):
            raise Refusal(f"column {self}: sides are 1 or more, only the first may be None, and strings have no shape")

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join('*' if side is None else str(side) for side in self.shape)}]"

    @property
    def has_fixed_shape(self) -> bool:
        return self.dtype != "utf8" and None not in self.shape

    @property
    def inner_shape(self) -> tuple[int, ...]:
        """The shape without a leading None."""
        return tuple(side for side in self.shape if side is not None)

    def empty(self, rows: int) -> Any:
        """An array [rows, ...] to fill, or a list where the rows differ."""
        return np.empty((rows, *self.inner_shape), self.dtype) if self.has_fixed_shape else [None] * rows

    def matches(self, shape: tuple[int, ...]) -> bool:
        return shape[len(shape) - len(self.inner_shape) :] == self.inner_shape and len(shape) == len(self.shape)

    def field(self, name: str) -> pa.Field:
        if self.dtype == "utf8":
            return pa.field(name, pa.large_utf8(), nullable=False, metadata={"shape": "[]"})
        kind = pa.from_numpy_dtype(np.dtype(self.dtype))
        if self.inner_shape:
            kind = pa.list_(pa.field("item", kind, nullable=False), math.prod(self.inner_shape))
        if not self.has_fixed_shape:
            kind = pa.large_list(pa.field("item", kind, nullable=False))
        return pa.field(name, kind, nullable=False, metadata={"shape": json.dumps(self.shape)})

    @staticmethod
    def of(field: pa.Field) -> Column:
        """The column that `field` was made from; raises KeyError for a field of another origin."""
        kind = field.type
        while pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            kind = kind.value_type
        dtype = "utf8" if pa.types.is_large_string(kind) else str(np.dtype(kind.to_pandas_dtype()))
        return Column(dtype, tuple(json.loads((field.metadata or {})[b"shape"])))


# ------------------------------------------------------------------------------------------------ writing


@dataclass(frozen=True)
class PartSummary:
    file: str
    rows: int
    bytes: int
    sha256: str
    class_counts: dict[int, int] | None  # label -> rows, where there is a column "label"


@contextmanager
def write_atomically(path: Path) -> Iterator[BinaryIO]:
    """A file to write that appears under `path` whole and on disk, or not at all."""
    with atomic_path(path) as draft, draft.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)  # the new name, too
    os.close(folder)


def write_part(
    path: str | Path, columns: Mapping[str, Column], examples: Iterable[Example], rows_per_batch: int = 1024
) -> PartSummary:
    """Streams `examples` into `path`, holding one record batch (`rows_per_batch` rows or 64 MiB) in memory."""
    path = Path(path)
    schema = pa.schema([column.field(name) for name, column in columns.items()])
    counts: dict[int, int] = {}
    rows, source = 0, iter(examples)
    with write_atomically(path) as file:
        sink = _Hashing(file)
        with pa.ipc.new_file(pa.PythonFile(sink, "w"), schema) as writer:
            while batch := _gather(columns, source, rows, rows_per_batch, path):
                rows += len(batch)
                arrays = [_arrow(column, [example[name] for example in batch]) for name, column in columns.items()]
                writer.write_batch(pa.record_batch(arrays, schema=schema))
                for example in batch if "label" in columns else ():
                    counts[int(example["label"])] = counts.get(int(example["label"]), 0) + 1
    return PartSummary(path.name, rows, sink.bytes, sink.sha256.hexdigest(), counts if "label" in columns else None)


class _Hashing:
    """A file to write whose digest is ready with its last byte."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.sha256, self.bytes = file, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self.bytes += len(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()

    def close(self) -> None:
        """Arrow closes its sink; `commit` still has to bring the file to disk."""


def _gather(
    columns: Mapping[str, Column], source: Iterator[Example], first: int, rows: int, path: Path
) -> list[Example]:
    batch: list[Example] = []
    size = 0
    for example in itertools.islice(source, rows):
        batch.append(_checked(columns, example, f"{path.name}: example {first + len(batch)}"))
        size += sum(len(v) if isinstance(v, str) else v.nbytes for v in batch[-1].values())
        if size >= BATCH_BYTES:
            break
    return batch


def _checked(columns: Mapping[str, Column], example: Example, where: str) -> dict[str, Any]:
    """The example with its numbers as contiguous arrays, refused unless they fit the columns."""
    if example.keys() != columns.keys():
        raise Refusal(f"{where}: has {', '.join(example)}; the data set declares {', '.join(columns)}")
    checked: dict[str, Any] = {}
    for name, column in columns.items():
        value = example[name]
        if column.dtype == "utf8":
            if not isinstance(value, str):
                raise Refusal(f"{where}: column '{name}' must be a string, not {type(value).__name__}")
        else:
            value = _number(value, column.dtype)
            if value.dtype != column.dtype or not column.matches(value.shape):
                raise Refusal(f"{where}: column '{name}' must be {column}, not {value.dtype}{list(value.shape)}")
        checked[name] = value
    return checked


def _number(value: Any, dtype: str) -> np.ndarray:
    """Plain Python numbers take the column's type where they fit it; arrays must have it already."""
    if type(value) is int or (type(value) is float and "float" in dtype):
        try:
            return np.asarray(value, dtype)
        except OverflowError:
            pass
    return np.asarray(value, order="C")


def _arrow(column: Column, values: list[Any]) -> pa.Array:
    if column.dtype == "utf8":
        return pa.array(values, pa.large_utf8())
    kind = column.field("").type
    flat = np.concatenate([value.reshape(-1) for value in values])
    array = pa.array(flat)
    if column.inner_shape:
        array = pa.FixedSizeListArray.from_arrays(array, type=kind if column.has_fixed_shape else kind.value_type)
    if column.has_fixed_shape:
        return array
    ends = np.cumsum([0, *(len(value) for value in values)], dtype=np.int64)
    return pa.LargeListArray.from_arrays(pa.array(ends), array, type=kind)


# ------------------------------------------------------------------------------------------------ reading


class Part:
    """A part file; `take` gathers any rows of a fixed-shape column in one step, whatever record batches hold them."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            file = pa.memory_map(str(path))
            reader = pa.ipc.open_file(file)
            self.columns = {field.name: Column.of(field) for field in reader.schema}
            self.batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        except FileNotFoundError:
            raise Refusal(f"{path}: this part is missing; run the prepare stage again (dvc repro)") from None
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            told = f"{path}: is no intact part ({first_line(error)}); run the prepare stage again (dvc repro)"
            raise Refusal(told) from None
        self.ends = np.cumsum([0, *(batch.num_rows for batch in self.batches)])
        self.rows = int(self.ends[-1])
        file.seek(0)
        self.bytes = np.frombuffer(file.read_buffer(), np.uint8)
        self._origins: dict[str, np.ndarray] = {}
        self._ragged: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}

    def arrays(self, name: str) -> list[np.ndarray]:
        """A fixed-shape column as read-only views, one [rows, ...] a record batch."""
        shape = self.columns[name].inner_shape
        return [_numbers(batch.column(name)).reshape(-1, *shape) for batch in self.batches]

    def take(self, name: str, rows: np.ndarray) -> Any:
        """The column at `rows` (int64 [B], within 0..rows-1): an array [B, ...], or a list of B arrays or strings."""
        owner = np.searchsorted(self.ends, rows, side="right") - 1 if len(self.batches) > 1 else np.zeros_like(rows)
        column = self.columns[name]
        if not column.has_fixed_shape:
            pairs = zip(owner.tolist(), (rows - self.ends[owner]).tolist(), strict=True)
            return [self._row(name, batch, row) for batch, row in pairs]
        if not rows.size:
            return column.empty(0)
        # The file as one array of overlapping rows, one beginning at each byte: gathering them is a plain index.
        width = math.prod(column.inner_shape) * np.dtype(column.dtype).itemsize
        windows = np.ndarray((self.bytes.size - width + 1,), f"V{width}", self.bytes, strides=(1,))
        taken = windows[self._origin(name, width)[owner] + rows * width]
        return taken.view(column.dtype).reshape(len(rows), *column.inner_shape)

    def _origin(self, name: str, width: int) -> np.ndarray:
        """Of each record batch: the byte where row 0 of the part would begin, were all rows in one piece with it."""
        if name not in self._origins:
            base = self.bytes.ctypes.data
            starts = [_numbers(batch.column(name)).ctypes.data - base for batch in self.batches]
            self._origins[name] = np.array(starts, dtype=np.int64) - self.ends[:-1] * width
        return self._origins[name]

    def _row(self, name: str, batch: int, row: int) -> Any:
        if name not in self._ragged:
            self._ragged[name] = [_lists(batch.column(name), self.columns[name]) for batch in self.batches]
        ends, values = self._ragged[name][batch]
        found = values[ends[row] : ends[row + 1]]
        return found.tobytes().decode() if self.columns[name].dtype == "utf8" else found.copy()


def _numbers(array: pa.Array) -> np.ndarray:
    """The numbers inside (lists of) lists, flat, as a view."""
    while isinstance(array, pa.LargeListArray | pa.FixedSizeListArray):
        array = array.values
    return array.to_numpy(zero_copy_only=True)


def _lists(array: pa.Array, column: Column) -> tuple[np.ndarray, np.ndarray]:
    """(ends int64 [rows + 1], values [total, ...]; the UTF-8 bytes of strings), as views."""
    _, ends, data = array.buffers()[:3]
    values = np.frombuffer(data or b"", np.uint8) if column.dtype == "utf8" else _numbers(array)
    return np.frombuffer(ends, np.int64)[: len(array) + 1], values.reshape(-1, *column.inner_shape)
