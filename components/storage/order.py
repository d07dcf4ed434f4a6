"""Which sample comes when: everything here is a pure function of its arguments, whoever asks and in whatever order.

An epoch's order is a keyed permutation of 0..n-1 that is computed, not stored: a Feistel network over pairs
(left, right) with left < a, right < b and a * b just above n; a value that lands outside 0..n-1 is sent through again
(cycle walking). Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise

import numpy as np

from ..errors import Refusal
from ..recipes.ranges import Count, Fraction, Natural

TABLE_LIMIT = 4096  # up to here a table is kept: a network over few values mixes them badly
BLOCK = 64  # steps
ROUNDS = 8  # an even number, so that the halves end where they began
MASK = (1 << 64) - 1
ONE, HALF, MULTIPLIER = np.uint64(1), np.uint64(32), np.uint64(0x94D049BB133111EB)


class Order:
    """`n` examples in batches of `batch`: each epoch a fresh permutation, its incomplete last batch dropped.

    sequential: element j of a batch walks through the j-th of `batch` equal stretches of the data instead, so that what
    follows it in the next batch follows it in the data (notes: sequential partitioning of a text).
    """

    def __init__(self, n: Count, batch: Count, seed: Natural, sequential: bool = False) -> None:
        if batch < 1:
            raise Refusal(f"fit.batch: {batch} is not a batch size; give at least 1")
        if batch > n:
            raise Refusal(f"fit.batch: {batch} is larger than the {n} training examples; lower fit.batch")
        self.n, self.batch, self.seed = n, batch, seed
        self.steps_per_epoch, self.sequential = n // batch, sequential
        self._known, self._rows = (-1, -1), np.arange(0)

    def indices(self, step: int) -> np.ndarray:
        """The examples of one step: int64 [batch]. Worked out for a block of steps at once, which costs the least."""
        epoch, number = divmod(step, self.steps_per_epoch)
        if self.sequential:
            return number + self.steps_per_epoch * np.arange(self.batch)
        block, row = divmod(number, BLOCK)
        if (epoch, block) != self._known:
            first, last = block * BLOCK * self.batch, min((block + 1) * BLOCK, self.steps_per_epoch) * self.batch
            positions = np.arange(first, last, dtype=np.uint64)
            self._known, self._rows = (epoch, block), permute(positions, self.n, self.seed, epoch)
        return self._rows[row * self.batch : (row + 1) * self.batch]


def permute(positions: np.ndarray, n: int, *key: int) -> np.ndarray:
    """The image of `positions` (each below `n`) under the permutation of 0..n-1 that `key` names: int64, same shape."""
    if n <= TABLE_LIMIT:
        return _table(n, *key)[positions]
    a, b = _sides(n)
    keys = _keys(*key)
    out = _feistel(positions.astype(np.uint64), a, b, keys)
    while (outside := np.flatnonzero(out >= n)).size:
        out[outside] = _feistel(out[outside], a, b, keys)
    return out.view(np.int64)


@lru_cache(maxsize=64)
def _table(n: int, *key: int) -> np.ndarray:
    """The permutation itself, by sorting 0..n-1 after a keyed hash."""
    words = np.arange(n, dtype=np.uint64) + np.uint64(derive_key(*key))
    return np.argsort(splitmix64(splitmix64(words)), kind="stable")


@lru_cache(maxsize=64)
def _sides(n: int) -> tuple[np.uint64, np.uint64]:
    """The pair (a, b), a from half the root of n to the root, whose product exceeds n the least: little to walk."""
    root = math.isqrt(n)
    a = min(range(root, root // 2, -1), key=lambda side: -n % side)
    return np.uint64(a), np.uint64(-(-n // a))


@lru_cache(maxsize=64)
def _keys(*key: int) -> list[np.uint64]:
    words = [derive_key(*key)]
    while len(words) < 2 * ROUNDS:
        words.append(derive_key(words[-1]))
    return [np.uint64(word) for word in words]


def _feistel(values: np.ndarray, a: np.uint64, b: np.uint64, keys: list[np.uint64]) -> np.ndarray:
    """A bijection of 0..a*b-1; values uint64 [N]."""
    left, right = values // b, values % b
    for first, second in zip(keys[::2], keys[1::2], strict=True):
        word = (right + first) * (second | ONE)  # two multiplications with a shift between them: far from linear
        word ^= word >> HALF
        word *= MULTIPLIER
        word >>= HALF  # 32 bits: the sum below can't overflow
        word += left
        left, right = right, word % a
        a, b = b, a
    return left * b + right


def splitmix64(words: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): uint64 to well-scattered uint64, element by element."""
    words = words ^ (words >> np.uint64(30))
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words


def derive_key(*numbers: int) -> int:
    """One 64-bit key from several whole numbers, their order counting."""
    word = 0
    for number in numbers:
        word = (word + number + 0x9E3779B97F4A7C15) & MASK
        word = ((word ^ word >> 30) * 0xBF58476D1CE4E5B9) & MASK
        word = ((word ^ word >> 27) * 0x94D049BB133111EB) & MASK
        word ^= word >> 31
    return word


def shard_slices(batch: Count, count: Count) -> list[slice]:
    """`count` contiguous pieces of a batch whose sizes differ by at most one, the longer ones first."""
    if not 1 <= count <= batch:
        raise Refusal(f"fit.shards: {count} shards can't be cut from a batch of {batch}; give 1 to {batch}")
    short, longer = divmod(batch, count)
    edges = [i * short + min(i, longer) for i in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def balanced_rows(labels: np.ndarray, count: Natural, seed: Natural) -> np.ndarray:
    """Rows of `count` examples, equally many of each class while it has any (int64, ascending).

    Nested: the rows for a smaller `count` are among those for a larger one.
    """
    if count > len(labels):
        raise Refusal(f"labels: {count} are more than the {len(labels)} examples there are; ask for fewer")
    rows, members, rank, sizes = _queues(labels, seed, 1)
    turn = permute(np.arange(len(sizes)), len(sizes), seed, 2) if len(sizes) else sizes  # who gets one more
    return np.sort(rows[np.lexsort((turn[members], rank))[:count]])


def stratified_rows(labels: np.ndarray, share: Fraction, seed: Natural) -> np.ndarray:
    """Rows of a `share` of each class, rounded (int64, ascending); nested as in `balanced`."""
    rows, members, rank, sizes = _queues(labels, seed, 4)
    return np.sort(rows[rank < np.rint(share * sizes)[members]])


def _queues(labels: np.ndarray, *key: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(rows [N] grouped by class and shuffled within each; class [N] of each; position [N] within its class;
    size [K] of each class)."""
    _, members = np.unique(labels, return_inverse=True)
    shuffled = permute(np.arange(len(labels)), len(labels), *key) if len(labels) else np.arange(0)
    rows = shuffled[np.argsort(members[shuffled], kind="stable")]
    sizes = np.bincount(members)
    return rows, members[rows], np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes), sizes


def stratified_folds(labels: np.ndarray, k: Count, seed: Natural) -> list[tuple[np.ndarray, np.ndarray]]:
    """Stratified k-fold: k pairs (training rows, validation rows), int64, ascending.

    Sizes of the folds, and each class's count in them, differ by at most one.
    """
    labels = np.asarray(labels)
    if not 2 <= k <= len(labels):
        raise Refusal(f"folds: {k} folds of {len(labels)} examples; give 2 to {len(labels)}")
    shuffled = permute(np.arange(len(labels)), len(labels), seed, 3)
    fold_of = np.empty(len(labels), dtype=np.int64)
    fold_of[shuffled[np.argsort(labels[shuffled], kind="stable")]] = np.arange(len(labels)) % k
    return [(np.flatnonzero(fold_of != i), np.flatnonzero(fold_of == i)) for i in range(k)]


def contiguous_folds(n: int, k: Count) -> list[tuple[np.ndarray, np.ndarray]]:
    """k pairs (training rows, validation rows) as `folds` gives, each fold a stretch of the data.

    For examples without a label, such as the windows of a text: one drawn by chance would lie between two that are
    trained on.
    """
    if not 2 <= k <= n:
        raise Refusal(f"folds: {k} folds of {n} examples; give 2 to {n}")
    parts = np.array_split(np.arange(n), k)
    return [(np.concatenate([*parts[:i], *parts[i + 1 :]]), part) for i, part in enumerate(parts)]
