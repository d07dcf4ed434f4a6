"""The order of examples when not all parts are at hand: over parts first, then over rows within a window of parts.

An epoch shuffles the parts and lays their rows end to end. Each shard of the batch walks through its own equal stretch,
so a worker reads the parts of its own shards alone. A stretch is a ring of pieces, one per part. Window t of it mixes
one slice of each of the `window` pieces that end at t: piece t has begun, piece t - window + 1 is in its last slice.

    window  0  1  2  3          a window of 2: every piece is in two windows, half of its rows in each,
    piece 0 a  b                and each window needs one part that the window before it did not
    piece 1    a  b
    piece 2       a  b
    piece 3 b        a          the ring: the epoch begins with the last slices of the last pieces

Rows are shuffled within their part before it is cut, and again within their window. Everything is computed from
(seed, step): any worker can begin at any step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest

import numpy as np

from ..recipes.ranges import Count, Natural
from .order import BLOCK_STEPS, Order, permute

DEFAULT_WINDOW = 16  # parts per shard, where the parts are in an object store
AHEAD = 2  # parts per shard that are fetched before they are needed
PARTS, ROWS, WINDOW = 11, 12, 13  # what a permutation is of: the last number of its key


@dataclass(frozen=True)
class Stretch:
    """The rows that one shard walks through in one epoch."""

    parts: np.ndarray  # number of the part of each piece [P]
    firsts: np.ndarray  # where each piece begins in its part's own shuffled order [P]
    cuts: np.ndarray  # where the slices of each piece begin and end, counted in the piece [P, window + 1]
    ends: np.ndarray  # where each window ends, counted in the stretch [P]

    @property
    def window(self) -> int:
        """Return the number of pieces that a window mixes."""
        return self.cuts.shape[1] - 1

    def pieces(self, window: int) -> np.ndarray:
        """Return the pieces of a window, that of slice 0 first: int64 [window]."""
        return (window - np.arange(self.window)) % len(self.parts)


class WindowOrder(Order):
    """Examples in batches, drawn for each of `shards` from a window of parts.

    counts: examples per part [parts], in the order of the examples.
    """

    def __init__(self, counts: np.ndarray, batch: Count, seed: Natural, shards: Count, window: Count) -> None:
        super().__init__(int(counts.sum()), batch, seed, shards=shards)
        self.counts = counts
        self.starts = np.cumsum(counts) - counts
        self.window = window
        self._stretch = lru_cache(maxsize=2 * shards)(self._compute_stretch)
        self._block = lru_cache(maxsize=shards)(self._compute_block)

    def indices(self, step: int) -> np.ndarray:
        """Return the examples of one step: int64 [batch]."""
        return self.shard_indices(step, range(len(self.slices)))

    def shard_indices(self, step: int, shards: range) -> np.ndarray:
        """Return the examples of some shards of one step."""
        epoch, number = divmod(step, self.steps_per_epoch)
        block, row = divmod(number, BLOCK_STEPS)
        pieces = []
        for shard in shards:
            size = self._size(shard)
            pieces.append(self._block(epoch, shard, block)[row * size : (row + 1) * size])
        return np.concatenate(pieces)

    def parts(self, step: int, shards: range) -> tuple[list[int], list[int]]:
        """Return the parts that some shards draw from in this step, and those that they will need next."""
        epoch, number = divmod(step, self.steps_per_epoch)
        needed: dict[int, None] = {}
        upcoming: list[list[int]] = []
        for shard in shards:
            stretch = self._stretch(epoch, shard)
            first, last = self._windows(stretch, number, shard)
            for window in range(first, last + 1):
                needed |= dict.fromkeys(stretch.parts[stretch.pieces(window)].tolist())
            upcoming.append(list(self._following(epoch, shard, last)))
        later = [part for parts in zip_longest(*upcoming) for part in parts if part is not None]
        return list(needed), [part for part in dict.fromkeys(later) if part not in needed]

    def windows(self, step: int, shards: range) -> list[tuple[int, int, int]]:
        """Return (epoch, first window, last window) of each shard in a step; while they stay, so do `parts`."""
        epoch, number = divmod(step, self.steps_per_epoch)
        return [(epoch, *self._windows(self._stretch(epoch, shard), number, shard)) for shard in shards]

    def _size(self, shard: int) -> int:
        return self.slices[shard].stop - self.slices[shard].start

    def _windows(self, stretch: Stretch, number: int, shard: int) -> tuple[int, int]:
        """Return the first and the last window that a shard draws from in step `number` of an epoch."""
        size = self._size(shard)
        ends = np.array([number * size, (number + 1) * size - 1])
        first, last = np.searchsorted(stretch.ends, ends, side="right").tolist()
        return first, last

    def _following(self, epoch: int, shard: int, window: int) -> Iterator[int]:
        """Yield the parts that the AHEAD windows after this one need, at the end of an epoch those of the next."""
        stretch = self._stretch(epoch, shard)
        for later in range(window + 1, window + 1 + AHEAD):
            if later < len(stretch.parts):
                yield int(stretch.parts[later])
            else:
                following = self._stretch(epoch + 1, shard)
                yield from following.parts[following.pieces(0)].tolist()
                return

    def _compute_stretch(self, epoch: int, shard: int) -> Stretch:
        """Return the stretch of a shard: pieces of the parts in the epoch's order."""
        order = permute(np.arange(len(self.counts)), len(self.counts), self.seed, epoch, PARTS)
        ends = np.cumsum(self.counts[order])
        begin = self.slices[shard].start * self.steps_per_epoch
        stop = self.slices[shard].stop * self.steps_per_epoch
        first, last = np.searchsorted(ends, [begin, stop - 1], side="right")
        parts = order[first : last + 1]
        starts = (ends - self.counts[order])[first : last + 1]
        firsts = np.maximum(begin - starts, 0)
        sizes = np.minimum(stop, ends[first : last + 1]) - starts - firsts
        parts, firsts, sizes = parts[sizes > 0], firsts[sizes > 0], sizes[sizes > 0]
        window = min(self.window, len(parts))
        cuts = sizes[:, None] * np.arange(window + 1) // window
        slice_sizes = np.diff(cuts, axis=1)
        window_sizes = sum(np.roll(slice_sizes[:, number], number) for number in range(window))
        return Stretch(parts, firsts, cuts, np.cumsum(window_sizes))

    def _compute_block(self, epoch: int, shard: int, block: int) -> np.ndarray:
        """Return a shard's examples of BLOCK_STEPS steps: int64 [steps * size]."""
        stretch = self._stretch(epoch, shard)
        size = self._size(shard)
        last = min((block + 1) * BLOCK_STEPS, self.steps_per_epoch)
        places = np.arange(block * BLOCK_STEPS * size, last * size)
        windows = np.searchsorted(stretch.ends, places, side="right")
        examples = np.empty_like(places)
        for window in np.unique(windows).tolist():
            chosen = windows == window
            start = stretch.ends[window - 1] if window else 0
            examples[chosen] = self._draw(stretch, (epoch, shard, window), places[chosen] - start)
        return examples

    def _draw(self, stretch: Stretch, key: tuple[int, int, int], places: np.ndarray) -> np.ndarray:
        """Return the examples at `places` [N] of a window's own shuffled order; key: epoch, shard, window."""
        epoch, _, window = key
        pieces = stretch.pieces(window)
        numbers = np.arange(stretch.window)
        begins = stretch.cuts[pieces, numbers]
        ends = np.cumsum(stretch.cuts[pieces, numbers + 1] - begins)
        mixed = permute(places, int(ends[-1]), self.seed, *key, WINDOW)
        slices = np.searchsorted(ends, mixed, side="right")
        examples = np.empty_like(places)
        for number in np.unique(slices).tolist():
            chosen = slices == number
            piece = pieces[number]
            part = int(stretch.parts[piece])
            within = mixed[chosen] - (ends[number - 1] if number else 0) + begins[number] + stretch.firsts[piece]
            shuffled = permute(within, int(self.counts[part]), self.seed, epoch, part, ROWS)
            examples[chosen] = self.starts[part] + shuffled
        return examples
