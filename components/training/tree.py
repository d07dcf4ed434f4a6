"""Sums over a fixed binary tree whose shape depends on the number of shards alone.

Each worker owns a contiguous range of shards and sums the complete subtrees inside its range by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Vector = list[Tensor]


def owned_shards(shards: int, size: int, rank: int) -> range:
    """Return the contiguous range of shards that worker `rank` of `size` computes; sizes differ by at most one."""
    return range(shards * rank // size, shards * (rank + 1) // size)


def complete_subtrees(shards: range) -> list[tuple[int, int]]:
    """Return the complete subtrees (start, level) inside a range of leaves: what its owner can sum alone."""
    tree = Tree(lambda earlier, later: None)
    for shard in shards:
        tree.push(shard, 0, None)
    return [(start, level) for start, level, _ in tree.blocks]


class Tree:
    """A sum whose terms are pushed from left to right and merged in pairs, like carries in a binary counter.

    A block (start, level) covers the leaves from `start` up to `start + 2**level`. Two neighbours merge as soon as both
    are complete.
    """

    def __init__(self, add: Callable[[Any, Any], Any]) -> None:
        self.add = add
        self.blocks: list[tuple[int, int, Any]] = []

    def push(self, start: int, level: int, value: Any) -> None:
        """Append the block (start, level), then merge it with its neighbours as far as they are complete."""
        while self.blocks and self.blocks[-1][1] == level and self.blocks[-1][0] % 2 ** (level + 1) == 0:
            start, _, earlier = self.blocks.pop()
            value = self.add(earlier, value)
            level += 1
        self.blocks.append((start, level, value))

    def total(self) -> Any:
        """Return the sum of all leaves; blocks that are still apart merge from right to left."""
        value = self.blocks[-1][2]
        for _, _, earlier in reversed(self.blocks[:-1]):
            value = self.add(earlier, value)
        return value


def add_vectors_(target: Vector, terms: Vector) -> Vector:
    """Add `terms` to `target` in place, tensor by tensor, and return `target`."""
    torch._foreach_add_(target, terms)
    return target
