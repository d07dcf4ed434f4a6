"""Columns of prepared data: a number type and a shape, stored as an Arrow field.

A column of shape [H, W, C] is stored as a fixed-size list of H * W * C numbers, shape [] as a plain number, a ragged
[None, 4] as a list of fixed-size lists, and `utf8` as a string. Each field's metadata holds the shape, so any Arrow
reader can open the files.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import Refusal, suggest_name

DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64")


@dataclass(frozen=True)
class Column:
    """The type of a column: one of DTYPES with a shape per row, or "utf8" with the shape ().

    The first dimension is None where it differs from row to row.
    """

    dtype: str
    shape: tuple[int | None, ...] = ()

    def __post_init__(self) -> None:
        if self.dtype not in (*DTYPES, "utf8"):
            allowed = (*DTYPES, "utf8")
            suggestion = suggest_name(self.dtype, allowed)
            raise Refusal(f"column dtype '{self.dtype}' can't be stored{suggestion}; use one of {', '.join(allowed)}")
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
        """Return whether all rows have the same shape, so that many rows make one array."""
        return self.dtype != "utf8" and None not in self.shape

    @property
    def inner_shape(self) -> tuple[int, ...]:
        """Return the shape without a leading None."""
        return tuple(side for side in self.shape if side is not None)

    def allocate(self, rows: int) -> Any:
        """Return an array [rows, ...] to fill, or a list where the rows differ in shape."""
        return np.empty((rows, *self.inner_shape), self.dtype) if self.has_fixed_shape else [None] * rows

    def matches(self, shape: tuple[int, ...]) -> bool:
        """Check the shape of one value."""
        return shape[len(shape) - len(self.inner_shape) :] == self.inner_shape and len(shape) == len(self.shape)

    def to_field(self, name: str) -> pa.Field:
        """Return the Arrow field that stores this column."""
        if self.dtype == "utf8":
            return pa.field(name, pa.large_utf8(), nullable=False, metadata={"shape": "[]"})
        arrow_type = pa.from_numpy_dtype(np.dtype(self.dtype))
        if self.inner_shape:
            arrow_type = pa.list_(pa.field("item", arrow_type, nullable=False), math.prod(self.inner_shape))
        if not self.has_fixed_shape:
            arrow_type = pa.large_list(pa.field("item", arrow_type, nullable=False))
        return pa.field(name, arrow_type, nullable=False, metadata={"shape": json.dumps(self.shape)})

    @staticmethod
    def from_field(field: pa.Field) -> Column:
        """Return the column that `to_field` made `field` from; raises KeyError for a field without our metadata."""
        arrow_type = field.type
        while pa.types.is_large_list(arrow_type) or pa.types.is_fixed_size_list(arrow_type):
            arrow_type = arrow_type.value_type
        dtype = "utf8" if pa.types.is_large_string(arrow_type) else str(np.dtype(arrow_type.to_pandas_dtype()))
        return Column(dtype, tuple(json.loads((field.metadata or {})[b"shape"])))
