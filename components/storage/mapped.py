"""A split whose integer columns are mapped by tables while they are read; the files stay as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .part_cache import PartAddress
from .store import Split


class MappedSplit(Split):
    """The rows of `paths`, in which value v of column `name` is read as `tables[name][v]`."""

    def __init__(self, paths: Sequence[str | Path | PartAddress], tables: Mapping[str, np.ndarray]) -> None:
        super().__init__(paths)
        self.tables = dict(tables)

    def __reduce__(self) -> tuple[Any, ...]:
        return MappedSplit, (self.paths, self.tables)

    def take(self, indices: np.ndarray, columns: Sequence[str] | None = None) -> dict[str, Any]:
        """Return the rows at `indices` [B] as `Split.take` does, with mapped values."""
        batch = super().take(indices, columns)
        return {name: self._map(name, values) for name, values in batch.items()}

    def array(self, name: str) -> np.ndarray:
        """Return all rows of a fixed-shape column [rows, ...] with mapped values."""
        values: np.ndarray = self._map(name, super().array(name))
        return values

    def _map(self, name: str, values: Any) -> Any:
        return self.tables[name][values] if name in self.tables else values
