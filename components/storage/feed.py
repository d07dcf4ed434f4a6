"""Examples on their way to the device: rows are gathered, moved and cut into shards.

On a CPU a batch is one gather from the memory-mapped file. Parts in an object store are fetched ahead of the steps that
need them. On a GPU the columns are copied to the device at the start if they fit into `resident` bytes. Otherwise a
background thread gathers the next step into pinned memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import Refusal
from .order import Order
from .part_cache import PartAddress
from .remote_part import open_parts
from .vocabulary import PAD
from .window_order import AHEAD, DEFAULT_WINDOW, WindowOrder

if TYPE_CHECKING:
    from .store import Split

SAMPLED_PARTS = 16  # parts in an object store that a sample of rows reads at most


class Feed:
    """A split, or its rows numbered by `rows`, as batches on a device: {column: Tensor [B, ...]}."""

    def __init__(
        self,
        split: Split,
        rows: np.ndarray | None = None,
        device: torch.device | None = None,
        resident: int = 2 << 30,
    ) -> None:
        self.split = split
        self.device = device or torch.device("cpu")
        self.rows = np.arange(len(split)) if rows is None else np.asarray(rows, dtype=np.int64)
        self.columns: dict[str, Tensor] | None = None  # all rows on the device, if they fit
        if self.device.type == "cuda" and _column_bytes(split, len(self.rows)) <= resident:
            self.columns = {name: self._to_device(values) for name, values in self._read(slice(None)).items()}

    def __len__(self) -> int:
        return len(self.rows)

    def order(
        self, batch: int, seed: int, sequential: bool = False, grouped_by: Sequence[str] = (), shards: int = 1
    ) -> Order:
        """Return the order of examples in training, as positions in this feed; `grouped_by`: see `lengths`."""
        return Order(len(self), batch, seed, sequential, self.lengths(grouped_by) if grouped_by else None, shards)

    def walk(
        self,
        batch: int,
        seed: int,
        shards: int,
        own_shards: range,
        sequential: bool = False,
        grouped_by: Sequence[str] = (),
        window: int | None = None,
    ) -> Walk:
        """Return this worker's `own_shards` of the `shards` of every training step.

        window: draw each shard from so many parts at a time; None: from all, or DEFAULT_WINDOW in an object store.
        """
        if window is None and self.split.is_remote:
            window = DEFAULT_WINDOW
        if window is None or sequential:
            return Walk(self, self.order(batch, seed, sequential, grouped_by, shards), own_shards)
        if grouped_by:
            raise Refusal(
                "fit.order: grouped needs all examples, and a window has few (fit.window, store); leave one out"
            )
        if np.any(np.diff(self.rows) < 0):
            raise Refusal("fit.examples: repeats rows, which fit.window can't order; leave one of them out")
        counts = np.bincount(self.split.part_numbers(self.rows), minlength=len(self.split.parts))
        self.order(batch, seed)  # checks the size of the batch
        return Walk(self, WindowOrder(counts, batch, seed, shards, window), own_shards)

    def lengths(self, names: Sequence[str]) -> np.ndarray:
        """Return numbers that sort the rows by the lengths of these columns, by the first one first: int64 [N].

        The length of a row of token numbers is that without padding.
        """
        keys = np.zeros(len(self), dtype=np.int64)
        for name in names:
            values = self.column(name)
            is_padded = isinstance(values, np.ndarray) and values.ndim == 2
            lengths = (values != PAD).sum(1) if is_padded else np.fromiter(map(len, values), np.int64, len(self))
            keys = keys * (lengths.max() + 1) + lengths
        return keys

    def batches(self, size: int, start: int = 0, stride: int = 1) -> Iterator[dict[str, Any]]:
        """Yield all rows in their order, `size` at a time; a worker takes every `stride`-th batch from `start`."""
        for number in range(start, -(-len(self) // size), stride):
            yield self.gather(np.arange(number * size, min((number + 1) * size, len(self))))

    def sample(self, most: int) -> np.ndarray:
        """Return at most `most` rows, evenly spaced; of parts in an object store, those of at most SAMPLED_PARTS."""
        rows = self.rows
        if self.split.is_remote:
            numbers = self.split.part_numbers(rows)
            present = np.unique(numbers)
            chosen = present[np.linspace(0, len(present) - 1, min(SAMPLED_PARTS, len(present))).astype(int)]
            rows = rows[np.isin(numbers, chosen)]
        return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]

    def column(self, name: str) -> Any:
        """Return a column of all rows on the host: an array [N, ...], or a list where the rows' shapes differ."""
        return self.split.take(self.rows, [name])[name]

    def gather(self, positions: np.ndarray) -> dict[str, Any]:
        """Return the columns at `positions` of this feed, on the device."""
        if self.columns is not None:
            index = torch.from_numpy(positions).to(self.device, non_blocking=True)
            return {name: values[index] for name, values in self.columns.items()}
        return self.move(self._read(positions))

    def pin(self, positions: np.ndarray) -> dict[str, Any]:
        """Return the columns at `positions` of this feed in pinned memory of the host."""
        columns = self._read(positions)
        return {
            name: torch.from_numpy(values).pin_memory() if isinstance(values, np.ndarray) else values
            for name, values in columns.items()
        }

    def move(self, columns: dict[str, Any]) -> dict[str, Any]:
        """Return columns of the host on the device; ragged ones stay on the host."""
        return {name: self._to_device(values) for name, values in columns.items()}

    def _read(self, positions: Any) -> dict[str, Any]:
        """Return the columns at `positions` of this feed on the host, and the numbers of their rows as "row"."""
        rows = self.rows[positions]
        return {"row": rows, **self.split.take(rows)}

    def _to_device(self, values: Any) -> Any:
        """Return an array or a tensor as a tensor on the device, and other values unchanged."""
        if isinstance(values, np.ndarray):
            values = torch.from_numpy(values)
        return values.to(self.device, non_blocking=True) if isinstance(values, Tensor) else values


class Walk:
    """One worker's shards of each training step, in an order of examples that every worker shares."""

    def __init__(self, feed: Feed, order: Order, own_shards: range) -> None:
        self.feed = feed
        self.order = order
        self.own_shards = own_shards
        self.sizes = [cut.stop - cut.start for cut in order.slices]
        prefetches = feed.device.type == "cuda" and feed.columns is None
        self.pool = ThreadPoolExecutor(1) if prefetches else None
        self.ahead: tuple[int, Future[dict[str, Any]]] | None = None  # a step, and its pinned columns
        self.parts = RemoteWalk(self) if feed.split.is_remote and feed.columns is None else None

    @property
    def steps_per_epoch(self) -> int:
        """Return the number of full batches in the feed."""
        return self.order.steps_per_epoch

    def at(self, step: int) -> tuple[list[dict[str, Any]], list[int]]:
        """Return this worker's shards of a step, and the sizes of all shards [shards]."""
        columns = self.feed.gather(self._positions(step)) if self.pool is None else self._prefetched(step, self.pool)
        slices = [self.order.slices[index] for index in self.own_shards]
        first = slices[0].start
        own_slices = [slice(cut.start - first, cut.stop - first) for cut in slices]
        return [{name: values[cut] for name, values in columns.items()} for cut in own_slices], self.sizes

    def rows(self, step: int) -> np.ndarray:
        """Return the numbers of the rows in a step's global batch: int64 [batch]."""
        return self.feed.rows[self.order.indices(step)]

    def _positions(self, step: int) -> np.ndarray:
        """Return the positions in the feed of this worker's examples of a step."""
        if self.parts is not None:
            self.parts.announce(step)
        return self.order.shard_indices(step, self.own_shards)

    def _prefetched(self, step: int, pool: ThreadPoolExecutor) -> dict[str, Any]:
        """Return the columns of a step on the device, and start to gather those of the next step."""
        if self.ahead is not None and self.ahead[0] == step:
            pinned = self.ahead[1].result()
        else:
            pinned = self.feed.pin(self._positions(step))
        self.ahead = (step + 1, pool.submit(lambda: self.feed.pin(self._positions(step + 1))))
        return self.feed.move(pinned)


class RemoteWalk:
    """The parts in an object store that the steps of a walk need."""

    def __init__(self, walk: Walk) -> None:
        self.walk = walk
        self.announced: object = None
        paths = [path for path in walk.feed.split.paths if isinstance(path, PartAddress)]
        per_shard = walk.order.window + 1 + AHEAD if isinstance(walk.order, WindowOrder) else 2 * walk.order.batch
        count = min(len(paths), per_shard * len(walk.own_shards))
        text = f"this fit opens {count} parts"
        open_parts().check_room(count * max(path.bytes for path in paths), text)

    def announce(self, step: int) -> None:
        """Keep the parts of a step mapped, and start to fetch those that come next."""
        order, shards = self.walk.order, self.walk.own_shards
        if isinstance(order, WindowOrder):
            key: object = order.windows(step, shards)
            if key == self.announced:
                return
            needed, upcoming = order.parts(step, shards)
        else:
            key, needed, upcoming = step, self._parts_of(step), self._parts_of(step + 1)
        self.announced = key
        paths = self.walk.feed.split.paths
        remote = [
            [path for number in numbers if isinstance(path := paths[number], PartAddress)]
            for numbers in (needed, upcoming)
        ]
        open_parts().hold(*remote)

    def _parts_of(self, step: int) -> list[int]:
        """Return the numbers of the parts that a step of a sequential walk reads."""
        numbers: list[int] = np.unique(self.walk.feed.split.part_numbers(self.walk.rows(step))).tolist()
        return numbers


def _column_bytes(split: Split, rows: int) -> int:
    """Return the size of `rows` rows of a split; with ragged columns, more than any device has."""
    example = split.take(np.zeros(1, dtype=np.int64))
    if not all(isinstance(values, np.ndarray) for values in example.values()):
        return 1 << 62
    return rows * sum(values.nbytes for values in example.values())
