"""Shards -> gradients -> one fixed tree -> clip -> optimiser step, whoever computed which shard.

A step's global batch is cut into `shards` slices. Each slice has its own random stream and its own batch statistics,
and their results are summed over one binary tree whose shape depends on the number of slices alone. Workers own
contiguous ranges of slices, reduce the complete subtrees inside their range, and exchange only those: an all-to-all of
vector slices, the rest of the tree on each slice, an all-gather. The bytes moved equal a ring all-reduce's, and the sum
is the same, bit for bit, on 1, 2 or `shards` workers.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import Refusal
from .meter import BATCH_GRADIENT, SHARD_GRADIENT
from .peers import Peers
from .task import Batch, Loss, Shard, State

Vector = list[Tensor]
ONE_VALUE_PER_CHANNEL = (
    "Expected more than 1 value per channel when training"  # torch's words, of any batch normalisation
)


def owned(shards: int, size: int, rank: int) -> range:
    """The contiguous range of shards that `rank` computes; sizes differ by at most one."""
    return range(shards * rank // size, shards * (rank + 1) // size)


def stream_seed(seed: int, step: int, shard: int, draw: int = 0) -> int:
    """A 63-bit seed, a pure function of (seed, step, shard, draw)."""
    key = f"{seed}/{step}/{shard}/{draw}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1


class Tree:
    """Sums values pushed from left to right over a fixed binary tree, like carries in a binary counter.

    A block (start, level) covers leaves start ... start + 2**level; two neighbours merge once both are whole.
    """

    def __init__(self, add: Callable[[Any, Any], Any]) -> None:
        self.add = add
        self.blocks: list[tuple[int, int, Any]] = []

    def push(self, start: int, level: int, value: Any) -> None:
        while self.blocks and self.blocks[-1][1] == level and self.blocks[-1][0] % 2 ** (level + 1) == 0:
            start, _, left = self.blocks.pop()
            value, level = self.add(left, value), level + 1
        self.blocks.append((start, level, value))

    def total(self) -> Any:
        """What is left when the number of leaves is no power of two merges from the right."""
        value = self.blocks[-1][2]
        for _, _, left in reversed(self.blocks[:-1]):
            value = self.add(left, value)
        return value


def frontier(shards: range) -> list[tuple[int, int]]:
    """The whole subtrees (start, level) inside a range of leaves: what its owner can sum alone."""
    tree = Tree(lambda left, right: None)
    for shard in shards:
        tree.push(shard, 0, None)
    return [(start, level) for start, level, _ in tree.blocks]


def add_(left: Vector, right: Vector) -> Vector:
    torch._foreach_add_(left, right)
    return left


class Update:
    """Handed to `Task.step`. Calling it moves one module; `mean` and `tally` serve steps without an optimiser."""

    def __init__(
        self,
        state: State,
        peers: Peers,
        *,
        seed: int = 0,
        shards: int = 1,
        precision: str = "float32",
        clip: float | None = None,
        accumulate: int = 1,
        norms: bool = False,
    ) -> None:
        self.state, self.peers, self.seed, self.shards = state, peers, seed, shards
        self.mine = owned(shards, peers.size, peers.rank)
        self.bfloat16, self.clip, self.norms = precision == "bfloat16", clip, norms
        self.accumulate, self.learned = accumulate, dict[str, int]()  # by the shapes that ran out of memory
        self.batches: list[Batch] = []
        self.weights: list[float] = []
        self.calls = 0
        self.parameters = {n: [p for p in m.parameters() if p.requires_grad] for n, m in state.modules.items()}
        self.buffers = _Buffers([b for m in state.modules.values() for b in m.buffers()], averaged=shards > 1)
        self.generator, self.streams = torch.Generator(peers.device), _streams(peers.device)

    def begin(self, batches: list[Batch], sizes: list[int]) -> None:
        """A new step: this worker's shards, and the sizes of *all* shards [shards]."""
        self.batches, self.calls = batches, 0
        self.weights = [sizes[index] / sum(sizes) for index in self.mine]

    def __call__(self, name: str, loss: Loss) -> dict[str, Tensor]:
        """One optimiser step of `state.modules[name]`; returns the metrics averaged over all shards.

        `norms` adds the squared norms of the shards' gradients (their mean) and of their sum, see `meter.NoiseScale`.
        """
        parameters = self.parameters[name]
        names: list[str] = []

        def gradients(state: State, shard: Shard) -> Vector:
            with torch.autocast(self.peers.device.type, torch.bfloat16) if self.bfloat16 else nullcontext():
                value, metrics = loss(state, shard)
            found = torch.autograd.grad(value, parameters, allow_unused=True)
            names[:] = ["loss", *metrics]
            scalars = torch.stack([value.detach().float(), *(m.detach().float() for m in metrics.values())])
            return [*_own(found, parameters), scalars]

        *grads, scalars = self.mean(gradients, _with_norm if self.norms else None)
        for parameter, gradient in zip(parameters, grads, strict=True):
            parameter.grad = gradient
        if self.norms:
            names += [SHARD_GRADIENT, BATCH_GRADIENT]
            scalars = torch.cat([scalars, squared_norm(grads)])
        metrics = dict(zip(names, scalars, strict=True))
        if self.clip is not None:
            metrics["gradient_norm"] = nn.utils.clip_grad_norm_(parameters, self.clip)
        self.state.optimizers[name].step()
        for parameter in parameters:
            parameter.grad = None
        return metrics

    def mean(
        self, function: Callable[[State, Shard], Vector], then: Callable[[Vector], Vector] | None = None
    ) -> Vector:
        """Mean over all shards (weighted by their sizes) of what `function`, and `then` on it, give, on every worker.

        `then` sees the whole shard, where `function` may have seen microbatches.
        """
        draw, self.calls = self.calls, self.calls + 1
        tree, count = Tree(add_), 0
        self.buffers.begin()
        for index, batch, weight in zip(self.mine, self.batches, self.weights, strict=True):
            values = self._guarded(function, index, batch, draw)
            values = values if then is None else then(values)
            count = len(values)
            leaf = [*values, *self.buffers.read()]
            if weight != 1:
                torch._foreach_mul_(leaf, weight)
            tree.push(index, 0, leaf)
        total = self._across(tree)
        self.buffers.write(total[count:])
        return total[:count]

    def tally(
        self,
        function: Callable[[State, Shard], dict[str, np.ndarray]],
        merge: Callable[[np.ndarray, np.ndarray], np.ndarray] = operator.add,
    ) -> None:
        """Adds what `function` counts in each shard to `state.tables`, on every worker, in the order of shards."""
        draw, self.calls = self.calls, self.calls + 1
        mine = [function(self.state, self._shard(i, b, draw)) for i, b in zip(self.mine, self.batches, strict=True)]
        for counts in (counts for theirs in self.peers.gather(mine) for counts in theirs):
            for name, count in counts.items():
                known = self.state.tables.get(name)
                self.state.tables[name] = count if known is None else merge(known, count)

    # -------------------------------------------------------------------------------------- one shard

    def _shard(self, index: int, batch: Batch, draw: int) -> Shard:
        key = stream_seed(self.seed, self.state.step, index, draw)
        for generator in self.streams:
            generator.manual_seed(key)
        return Shard(batch, self.generator.manual_seed(key + 1), index, dict(self.state.carry.get(index, {})))

    def _guarded(self, function: Callable[[State, Shard], Vector], index: int, batch: Batch, draw: int) -> Vector:
        """Out of memory halves the microbatch and tries again from the step's own state.

        What was learned holds for shards of the same shapes alone. If it applied to later shards of other shapes, the
        result would depend on which shards this worker happened to have, and on where the run was interrupted.
        """
        key = str([_shapes(values) for values in batch.values()])
        parts = self.learned.get(key, self.accumulate)
        while True:
            self.buffers.rewind()
            try:
                shard = self._shard(index, batch, draw)
                values = self._accumulated(function, shard, parts)
                if shard.carry:
                    self.state.carry[index] = shard.carry
                return values
            except ValueError as error:
                if ONE_VALUE_PER_CHANNEL not in str(error):
                    raise
                remedy = "raise fit.batch, or lower fit.shards"
                if parts > 1 and _rows(batch) > 1:
                    remedy = f"a microbatch, of {parts} a shard, has one example: lower fit.accumulate or add memory"
                raise Refusal(f"fit: {ONE_VALUE_PER_CHANNEL} (batch normalisation); {remedy}") from None
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or parts >= _rows(batch):
                    raise
            parts = self.learned[key] = min(2 * parts, _rows(batch))  # the error, and what it held, is gone by here
            if self.peers.device.type == "cuda":
                torch.cuda.empty_cache()

    def _accumulated(self, function: Callable[[State, Shard], Vector], shard: Shard, parts: int) -> Vector:
        if parts == 1:
            return function(self.state, shard)
        rows, total, carried = _rows(shard.batch), None, []
        for part in range(parts):
            cut = slice(rows * part // parts, rows * (part + 1) // parts)
            if cut.start == cut.stop:
                continue
            batch, carry = ({n: values[cut] for n, values in whole.items()} for whole in (shard.batch, shard.carry))
            chunk = Shard(batch, shard.generator, shard.index, carry)
            values = function(self.state, chunk)
            torch._foreach_mul_(values, (cut.stop - cut.start) / rows)
            total = values if total is None else add_(total, values)
            carried.append(chunk.carry)
        shard.carry = {name: torch.cat([carry[name] for carry in carried]) for name in carried[0]}
        assert total is not None
        return total

    # -------------------------------------------------------------------------------------- all workers

    def _across(self, tree: Tree) -> Vector:
        if self.peers.size == 1:
            return tree.total()
        leaf = tree.blocks[0][2]
        flat = torch.stack([torch.cat([t.reshape(-1) for t in value]) for _, _, value in tree.blocks])
        total = self._exchanged(flat)
        pieces = total.split([t.numel() for t in leaf])
        for tensor, piece in zip(leaf, pieces, strict=True):
            tensor.copy_(piece.view(tensor.shape))  # in the tensor's own memory format: sums over it must not differ
        return leaf

    def _exchanged(self, flat: Tensor) -> Tensor:
        """`flat` [blocks of this worker, length] -> the sum over every worker's blocks [length]."""
        size, length = self.peers.size, flat.shape[1]
        width = -(-length // size)
        fronts = [frontier(owned(self.shards, size, rank)) for rank in range(size)]
        padded = nn.functional.pad(flat, (0, width * size - length))
        outgoing = padded.view(len(flat), size, width).transpose(0, 1)
        incoming = self.peers.exchange(outgoing, [len(front) for front in fronts])
        tree = Tree(torch.Tensor.add_)
        for (start, level), row in zip((block for front in fronts for block in front), incoming, strict=True):
            tree.push(start, level, row)
        return self.peers.collect(tree.total())[:length]


class _Buffers:
    """Buffers (batch-norm statistics) of all modules: each shard starts from the step's own, and of what the shards
    leave in those of floating point the mean is taken. They are to be changed in place alone."""

    def __init__(self, found: Vector, averaged: bool) -> None:
        self.kinds = [[b for b in found if b.dtype == kind] for kind in dict.fromkeys(b.dtype for b in found)]
        self.start = [[torch.empty_like(b) for b in kind] for kind in self.kinds]
        self.live = [b for b in found if b.is_floating_point()] if averaged else []
        self.touched = False

    def begin(self) -> None:
        self._copy(self.start, self.kinds)
        self.touched = False

    def rewind(self) -> None:
        if self.touched:
            self._copy(self.kinds, self.start)
        self.touched = True

    def read(self) -> Vector:
        values = [torch.empty_like(b) for b in self.live]
        self._copy([values], [self.live])
        return values

    def write(self, values: Vector) -> None:
        self._copy([self.live], [values])

    @staticmethod
    def _copy(into: list[Vector], values: list[Vector]) -> None:
        """One call for all tensors of a kind: on a GPU one kernel, too."""
        for theirs, ours in zip(into, values, strict=True):
            if theirs:
                torch._foreach_copy_(theirs, ours)


def _own(gradients: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> Vector:
    """A tensor of its own for each parameter, in its memory format: what autograd gives may be expanded or shared."""
    seen: set[int] = set()
    own = []
    for gradient, parameter in zip(gradients, parameters, strict=True):
        if gradient is None:
            gradient = torch.zeros_like(parameter)
        elif gradient.stride() != parameter.stride() or gradient.data_ptr() in seen:
            gradient = torch.empty_like(parameter).copy_(gradient)
        seen.add(gradient.data_ptr())
        own.append(gradient)
    return own


def _streams(device: torch.device) -> list[torch.Generator]:
    """torch's global generators, seeded directly: `torch.manual_seed` costs a millisecond where there is no GPU."""
    if device.type != "cuda":
        return [torch.default_generator]
    torch.cuda.init()
    index = torch.cuda.current_device() if device.index is None else device.index
    return [torch.default_generator, torch.cuda.default_generators[index]]


def squared_norm(gradients: Vector) -> Tensor:
    """[1], over all tensors."""
    return torch.stack(torch._foreach_norm(gradients)).float().square().sum()[None]


def _with_norm(values: Vector) -> Vector:
    """Behind the scalars of a shard, the squared norm of the gradients before them."""
    return [*values[:-1], torch.cat([values[-1], squared_norm(values[:-1])])]


def _shapes(values: Any) -> Any:
    return tuple(values.shape) if isinstance(values, Tensor) else [len(one) for one in values]


def _rows(batch: Batch) -> int:
    return len(next(iter(batch.values())))


def is_out_of_memory(error: Exception) -> bool:
    """On any device: torch says it in several ways."""
    texts = ("not enough memory", "can't allocate memory", "out of memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(text in str(error) for text in texts)
