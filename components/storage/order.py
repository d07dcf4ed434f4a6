"""The order of examples, as pure functions: the same for every worker, whatever it has computed before.

An epoch's order is a keyed permutation of 0..n-1 that is computed, not stored. It is a Feistel network over pairs
(high, low) with high < a, low < b and a * b just above n. A value that lands outside 0..n-1 is sent through the
network again (cycle walking). Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..errors import Refusal
from ..recipes.ranges import Count, Natural

TABLE_LIMIT = 4096  # permutations up to here are stored, because a network over few values mixes them badly
BLOCK_STEPS = 64  # steps whose order is computed at once
ROUNDS = 8  # an even number, so that the halves end where they began
MASK = (1 << 64) - 1
ONE = np.uint64(1)
HALF = np.uint64(32)
MULTIPLIER = np.uint64(0x94D049BB133111EB)
Fold = tuple[np.ndarray, np.ndarray]  # training rows, validation rows; int64, ascending


class Order:
    """`n` examples in batches of `batch`: a new permutation per epoch, without its incomplete last batch.

    sequential: element j of a batch walks through the j-th of `batch` equal stretches of the data instead. What follows
    it in the next batch then follows it in the data (notes: sequential partitioning of a text).
    lengths: of the examples, int64 [n]. Each block of steps then sorts its examples by length before it cuts them into
    batches, and shuffles the batches: the examples of a batch need little padding.
    shards: slices that each batch is cut into.
    """

    def __init__(
        self,
        n: Count,
        batch: Count,
        seed: Natural,
        sequential: bool = False,
        lengths: np.ndarray | None = None,
        shards: Count = 1,
    ) -> None:
        if batch < 1:
            raise Refusal(f"fit.batch: {batch} is not a valid batch size; give at least 1")
        if batch > n:
            raise Refusal(f"fit.batch: {batch} is larger than the {n} training examples; lower fit.batch")
        self.n = n
        self.batch = batch
        self.seed = seed
        self.sequential = sequential
        self.lengths = lengths
        self.slices = shard_slices(batch, shards)
        self.steps_per_epoch = n // batch
        self._cached_block = (-1, -1)  # epoch, block
        self._cached_rows = np.arange(0)

    def indices(self, step: int) -> np.ndarray:
        """Return the examples of one step: int64 [batch]. A block of steps is computed at once, which is faster."""
        epoch, number = divmod(step, self.steps_per_epoch)
        if self.sequential:
            return number + self.steps_per_epoch * np.arange(self.batch)
        block, row = divmod(number, BLOCK_STEPS)
        if (epoch, block) != self._cached_block:
            first = block * BLOCK_STEPS * self.batch
            last = min((block + 1) * BLOCK_STEPS, self.steps_per_epoch) * self.batch
            self._cached_rows = permute(np.arange(first, last, dtype=np.uint64), self.n, self.seed, epoch)
            if self.lengths is not None:
                self._cached_rows = self._group_by_length(self._cached_rows, self.lengths, epoch, block)
            self._cached_block = (epoch, block)
        return self._cached_rows[row * self.batch : (row + 1) * self.batch]

    def shard_indices(self, step: int, shards: range) -> np.ndarray:
        """Return the examples of consecutive shards of one step."""
        return self.indices(step)[self.slices[shards[0]].start : self.slices[shards[-1]].stop]

    def _group_by_length(self, rows: np.ndarray, lengths: np.ndarray, epoch: int, block: int) -> np.ndarray:
        """Return the rows of one block, int64 [steps * batch], as shuffled batches of similar length."""
        batches = rows[np.argsort(lengths[rows], kind="stable")].reshape(-1, self.batch)
        return batches[permute(np.arange(len(batches)), len(batches), self.seed, epoch, block)].ravel()


def permute(positions: np.ndarray, n: int, *key: int) -> np.ndarray:
    """Return the image of `positions` (each below `n`) under the permutation of 0..n-1 with this key: int64 [N]."""
    if n <= TABLE_LIMIT:
        return _permutation_table(n, *key)[positions]
    a, b = _domain_sides(n)
    keys = _round_keys(*key)
    out = _feistel(positions.astype(np.uint64), a, b, keys)
    while (outside := np.flatnonzero(out >= n)).size:
        out[outside] = _feistel(out[outside], a, b, keys)
    return out.view(np.int64)


@lru_cache(maxsize=64)
def _permutation_table(n: int, *key: int) -> np.ndarray:
    """Return a permutation of 0..n-1, sorted by a keyed hash: int64 [n]."""
    words = np.arange(n, dtype=np.uint64) + np.uint64(derive_key(*key))
    return np.argsort(splitmix64(splitmix64(words)), kind="stable")


@lru_cache(maxsize=64)
def _domain_sides(n: int) -> tuple[np.uint64, np.uint64]:
    """Return (a, b) with the smallest product a * b >= n, a between half the root of n and the root.

    The smaller the excess, the fewer values have to walk.
    """
    root = math.isqrt(n)
    a = min(range(root, root // 2, -1), key=lambda side: -n % side)
    return np.uint64(a), np.uint64(-(-n // a))


@lru_cache(maxsize=64)
def _round_keys(*key: int) -> list[np.uint64]:
    """Return two words per round of the network."""
    words = [derive_key(*key)]
    while len(words) < 2 * ROUNDS:
        words.append(derive_key(words[-1]))
    return [np.uint64(word) for word in words]


def _feistel(values: np.ndarray, a: np.uint64, b: np.uint64, keys: list[np.uint64]) -> np.ndarray:
    """Map values of 0..a*b-1 (uint64 [N]) one to one onto the same range."""
    high = values // b
    low = values % b
    for first, second in zip(keys[::2], keys[1::2], strict=True):
        word = (low + first) * (second | ONE)
        word ^= word >> HALF
        word *= MULTIPLIER  # a second multiplication, after the shift, makes the function far from linear
        word >>= HALF  # 32 bits: the sum below can't overflow
        word += high
        high, low = low, word % a
        a, b = b, a
    return high * b + low


def splitmix64(words: np.ndarray) -> np.ndarray:
    """Scatter uint64 words, element by element, by the finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    words = words ^ (words >> np.uint64(30))
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words


def keyed_uniforms(rows: np.ndarray, length: int, *key: int) -> np.ndarray:
    """Return numbers from [0, 1) that follow from row number, position and key alone: float64 [B, length].

    Use them where a draw must not depend on the other rows of a batch or on how the batch is cut into shards.
    """
    places = (rows.astype(np.int64)[:, None] * length + np.arange(length)).astype(np.uint64)
    words = splitmix64(splitmix64(places + np.uint64(derive_key(*key))))
    return (words >> np.uint64(11)) * 2.0**-53


def derive_key(*numbers: int) -> int:
    """Return a 64-bit key of several integers; their order matters."""
    word = 0
    for number in numbers:
        word = (word + number + 0x9E3779B97F4A7C15) & MASK
        word = ((word ^ word >> 30) * 0xBF58476D1CE4E5B9) & MASK
        word = ((word ^ word >> 27) * 0x94D049BB133111EB) & MASK
        word ^= word >> 31
    return word


def shard_slices(batch: Count, count: Count) -> list[slice]:
    """Cut a batch into `count` contiguous slices whose sizes differ by at most one, the longer ones first."""
    if not 1 <= count <= batch:
        raise Refusal(f"fit.shards: {count} shards can't be cut from a batch of {batch}; give 1 to {batch}")
    short, longer = divmod(batch, count)
    edges = [i * short + min(i, longer) for i in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def balanced_rows(labels: np.ndarray, count: Natural, seed: Natural) -> np.ndarray:
    """Draw `count` rows, equally many of each class until it is used up: int64 [count], ascending.

    Draws are nested: the rows for a smaller `count` are among those for a larger one.
    """
    if count > len(labels):
        raise Refusal(f"labels: {count} are more than the {len(labels)} examples there are; ask for fewer")
    queues = _class_queues(labels, seed, 1)
    classes = len(queues.sizes)
    # where `count` does not divide evenly, a random order of the classes decides which ones get one more
    turn = permute(np.arange(classes), classes, seed, 2) if classes else queues.sizes
    return np.sort(queues.rows[np.lexsort((turn[queues.classes], queues.positions))[:count]])


class _ClassQueues(NamedTuple):
    """All rows [N], grouped by class and shuffled within each."""

    rows: np.ndarray
    classes: np.ndarray  # class of each row [N], 0..K-1
    positions: np.ndarray  # place of each row within its class [N]
    sizes: np.ndarray  # rows of each class [K]


def _class_queues(labels: np.ndarray, *key: int) -> _ClassQueues:
    """Group the rows by class, in an order shuffled by the key."""
    _, classes = np.unique(labels, return_inverse=True)
    shuffled = permute(np.arange(len(labels)), len(labels), *key) if len(labels) else np.arange(0)
    rows = shuffled[np.argsort(classes[shuffled], kind="stable")]
    sizes = np.bincount(classes)
    positions = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return _ClassQueues(rows, classes[rows], positions, sizes)


def stratified_folds(labels: np.ndarray, k: Count, seed: Natural) -> list[Fold]:
    """Return k folds for stratified cross-validation.

    The sizes of the folds differ by at most one, and so do the counts of each class in them.
    """
    labels = np.asarray(labels)
    if not 2 <= k <= len(labels):
        raise Refusal(f"folds: {k} for {len(labels)} examples; give 2 to {len(labels)}")
    shuffled = permute(np.arange(len(labels)), len(labels), seed, 3)
    fold_of = np.empty(len(labels), dtype=np.int64)
    fold_of[shuffled[np.argsort(labels[shuffled], kind="stable")]] = np.arange(len(labels)) % k
    return [(np.flatnonzero(fold_of != i), np.flatnonzero(fold_of == i)) for i in range(k)]


def contiguous_folds(n: int, k: Count) -> list[Fold]:
    """Return k folds of n examples, each validated on one stretch of the data.

    For examples without a label, such as the windows of a text. A window drawn at random would lie between two that are
    trained on.
    """
    if not 2 <= k <= n:
        raise Refusal(f"folds: {k} for {n} examples; give 2 to {n}")
    parts = np.array_split(np.arange(n), k)
    return [(np.concatenate([*parts[:i], *parts[i + 1 :]]), part) for i, part in enumerate(parts)]
