"""Examples on their way to the device: which rows, gathered, moved, cut into shards.

On a CPU a batch is one gather from the memory-mapped file. On a GPU the columns live on the device when they fit into
`resident` bytes (one copy at the start); else a thread gathers the next step into pinned memory meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .order import Order, shard_slices

if TYPE_CHECKING:
    from .store import Split


class Feed:
    """A split (or the rows of it named by `rows`) as device batches: {column: Tensor [B, ...]}."""

    def __init__(
        self,
        split: Split,
        rows: np.ndarray | None = None,
        device: torch.device | None = None,
        resident: int = 2 << 30,
    ) -> None:
        self.split, self.device = split, device or torch.device("cpu")
        self.rows = np.arange(len(split)) if rows is None else np.asarray(rows, dtype=np.int64)
        self.columns: dict[str, Tensor] | None = None
        self.ahead: tuple[tuple[int, int, range], Future] | None = None  # (step, number of shards, mine), its columns
        self.pool = ThreadPoolExecutor(1) if self.device.type == "cuda" else None
        if self.device.type == "cuda" and _bytes(split, len(self.rows)) <= resident:
            self.columns = {name: self._moved(values) for name, values in self._taken(slice(None)).items()}

    def __len__(self) -> int:
        return len(self.rows)

    def order(self, batch: int, seed: int, sequential: bool = False) -> Order:
        return Order(len(self), batch, seed, sequential)

    def shards(self, order: Order, step: int, count: int, mine: range) -> tuple[list[dict[str, Any]], list[int]]:
        """This worker's shards of one step, and the sizes of all of them [count]."""
        slices = shard_slices(order.batch, count)
        if self.pool is None or self.columns is not None:
            whole = self._gathered(self._wanted(order, step, slices, mine))
        else:
            known = self.ahead is not None and self.ahead[0] == (step, count, mine)
            host = self.ahead[1].result() if known and self.ahead else self._host(order, step, slices, mine)
            self.ahead = ((step + 1, count, mine), self.pool.submit(self._host, order, step + 1, slices, mine))
            whole = {name: self._moved(values) for name, values in host.items()}
        first = slices[mine[0]].start
        cuts = [slice(slices[i].start - first, slices[i].stop - first) for i in mine]
        return [{n: v[cut] for n, v in whole.items()} for cut in cuts], [s.stop - s.start for s in slices]

    def batches(self, size: int, start: int = 0, stride: int = 1) -> Iterator[dict[str, Any]]:
        """All rows in their order, `size` at a time; a worker takes every `stride`-th batch from `start`."""
        for number in range(start, -(-len(self) // size), stride):
            yield self._gathered(np.arange(number * size, min((number + 1) * size, len(self))))

    def column(self, name: str) -> Any:
        """One column of all rows, on the host: an array [N, ...], or a list where rows differ."""
        return self.split.take(self.rows, [name])[name]

    def _taken(self, positions: Any) -> dict[str, Any]:
        """Columns at `positions` of this feed, and with them the rows' numbers."""
        rows = self.rows[positions]
        return {"row": rows, **self.split.take(rows)}

    def _wanted(self, order: Order, step: int, slices: list[slice], mine: range) -> np.ndarray:
        return order.indices(step)[slices[mine[0]].start : slices[mine[-1]].stop]

    def _gathered(self, positions: np.ndarray) -> dict[str, Any]:
        if self.columns is not None:
            index = torch.from_numpy(positions).to(self.device, non_blocking=True)
            return {name: values[index] for name, values in self.columns.items()}
        return {n: self._moved(values) for n, values in self._taken(positions).items()}

    def _host(self, order: Order, step: int, slices: list[slice], mine: range) -> dict[str, Any]:
        taken = self._taken(self._wanted(order, step, slices, mine))
        return {n: torch.from_numpy(v).pin_memory() if isinstance(v, np.ndarray) else v for n, v in taken.items()}

    def _moved(self, values: Any) -> Any:
        if isinstance(values, np.ndarray):
            values = torch.from_numpy(values)
        return values.to(self.device, non_blocking=True) if isinstance(values, Tensor) else values


def _bytes(split: Split, rows: int) -> int:
    one = split.take(np.zeros(1, dtype=np.int64))
    if not all(isinstance(values, np.ndarray) for values in one.values()):
        return 1 << 62  # ragged columns stay on the host
    return rows * sum(values.nbytes for values in one.values())
