"""Sum the trees of all workers: an all-to-all of vector slices, the rest of the tree on each slice, an all-gather.

Workers own contiguous ranges of shards and exchange only the complete subtrees inside their ranges. This moves as many
bytes as a ring all-reduce, and the sum is the same, bit for bit, on 1, 2 or `shards` workers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .moments import ShardedMoments
from .peers import Peers
from .tree import Tree, Vector, complete_subtrees, owned_shards


class Exchange:
    """The sum over `shards` shards, of which each of `peers` has some."""

    def __init__(self, peers: Peers, shards: int) -> None:
        self.peers = peers
        self.subtrees = [complete_subtrees(owned_shards(shards, peers.size, rank)) for rank in range(peers.size)]

    def __call__(self, tree: Tree, moments: ShardedMoments | None = None) -> Vector:
        """Return the sum over all workers' trees; with sharded moments, of the own gradients and the rest alone."""
        if self.peers.size == 1:
            return tree.total()
        blocks = [value for _, _, value in tree.blocks]
        leaf = blocks[0]
        if moments is None:
            total = self._sum_whole(torch.stack([torch.cat([t.reshape(-1) for t in value]) for value in blocks]))
        else:
            leaf = moments.select_own(leaf)
            total = self._sum_slices(moments.parts(blocks))[: sum(t.numel() for t in leaf)]
        for tensor, piece in zip(leaf, total.split([t.numel() for t in leaf]), strict=True):
            # keeps the tensor's memory format, on which the order of later sums depends
            tensor.copy_(piece.view(tensor.shape))
        return leaf

    def _sum_whole(self, flat: Tensor) -> Tensor:
        """Return the sum [length] over all workers' blocks, from this worker's `flat` [blocks, length]."""
        size, length = self.peers.size, flat.shape[1]
        width = -(-length // size)
        padded = nn.functional.pad(flat, (0, width * size - length))
        return self.peers.all_gather(self._sum_slices(padded.view(len(flat), size, width).transpose(0, 1)))[:length]

    def _sum_slices(self, outgoing: Tensor) -> Tensor:
        """Return the sum [width] over all workers' blocks of what they sent to this one.

        outgoing: what this worker sends to each of them [size, blocks, width].
        """
        incoming = self.peers.all_to_all(outgoing, [len(blocks) for blocks in self.subtrees])
        tree = Tree(torch.Tensor.add_)
        for (start, level), row in zip((block for blocks in self.subtrees for block in blocks), incoming, strict=True):
            tree.push(start, level, row)
        return tree.total()
