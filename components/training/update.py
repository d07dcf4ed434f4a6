"""Shards -> gradients -> one fixed tree -> clip -> optimiser step, whichever worker computed which shard.

The global batch of a step is cut into `shards` slices. Each slice has its own random stream and its own batch
statistics. The results, scaled by the weights of their slices, are summed over a binary tree whose shape depends on the
number of slices alone. A weight is the slice's share of the examples or, where the loss sets one, the number of tokens,
boxes or the like that it is a mean over; the total is then divided by the sum of these over the same tree. Workers own
contiguous ranges of slices and exchange only the complete subtrees inside their ranges: an all-to-all of vector
slices, the rest of the tree on each slice, an all-gather. This moves as many bytes as a ring all-reduce, and the sum is
the same, bit for bit, on 1, 2 or `shards` workers.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import Refusal
from .buckets import GradientBuckets
from .buffers import ModuleBuffers
from .memory import is_out_of_memory
from .moments import Moments, ShardedMoments, shard_moments
from .noise_scale import BATCH_GRADIENT, SHARD_GRADIENT, append_squared_norm
from .peers import Peers
from .task import Batch, Loss, Shard, State
from .tree import Tree, Vector, add_vectors_, complete_subtrees, owned_shards

# torch's error text, the same for every batch normalisation
ONE_VALUE_PER_CHANNEL = "Expected more than 1 value per channel when training"


def stream_seed(seed: int, step: int, shard: int, draw: int = 0) -> int:
    """Return a 63-bit seed, a pure function of (seed, step, shard, draw)."""
    key = f"{seed}/{step}/{shard}/{draw}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1


class ShardedUpdate:
    """The `Update` that the engine passes to `Task.step`."""

    def __init__(
        self,
        state: State,
        peers: Peers,
        *,
        seed: int = 0,
        shards: int = 1,
        precision: str = "float32",
        clip: float | None = None,
        clip_by: str = "norm",
        accumulate: int = 1,
        norms: bool = False,
        moments: Moments = "auto",
    ) -> None:
        """Take over the module parameters of `state`; the arguments are those of `engine.fit`.

        norms: add the squared norms of gradients to the metrics, from which `NoiseScale` is estimated.
        """
        self.state, self.peers, self.seed, self.shards = state, peers, seed, shards
        self.own_shards = owned_shards(shards, peers.size, peers.rank)
        self.bfloat16, self.norms, self.accumulate = precision == "bfloat16", norms, accumulate
        self.clip, self.clip_by = clip, clip_by
        self.microbatches: dict[str, int] = {}  # per shard, by the shapes of shards that ran out of memory
        self.batches: list[Batch] = []
        self.weights: list[float] = []
        self.examples = 0  # of the step, over all workers
        self.starts: dict[int, int] = {}  # shard -> the position of its first example in the step's batch
        self.weight: Tensor | None = None  # the sum of the weights [] that losses set in the latest mean
        self.calls = 0
        self.parameters = {n: [p for p in m.parameters() if p.requires_grad] for n, m in state.modules.items()}
        self.moments = {name: shard_moments(self.parameters[name], peers, moments) for name in state.optimizers}
        self.buffers = ModuleBuffers([b for m in state.modules.values() for b in m.buffers()], averaged=shards > 1)
        self.buckets = {name: GradientBuckets(p, self._across_workers) for name, p in self.parameters.items()}
        self.fitting: set[str] = set()  # shapes of shards for which the memory was enough
        self.generator = torch.Generator(peers.device)
        self.global_generators = _global_generators(peers.device)

    def begin(self, batches: list[Batch], sizes: list[int]) -> None:
        """Begin a step with this worker's shards and the sizes of all shards [shards]."""
        self.batches, self.calls, self.weight = batches, 0, None
        self.examples = sum(sizes)
        self.weights = [sizes[index] / self.examples for index in self.own_shards]
        self.starts = {index: sum(sizes[:index]) for index in self.own_shards}

    def __call__(self, name: str, loss: Loss) -> dict[str, Tensor]:
        """Update `state.modules[name]` by one optimiser step; return the loss and metrics averaged over all shards."""
        parameters = self.parameters[name]
        names: list[str] = []

        def forward(state: State, shard: Shard) -> tuple[Tensor, Tensor]:
            """Return the loss of one shard, and its scalars."""
            with torch.autocast(self.peers.device.type, torch.bfloat16) if self.bfloat16 else nullcontext():
                value, metrics = loss(state, shard)
            names[:] = ["loss", *metrics]
            return value, torch.stack([value.detach().float(), *(m.detach().float() for m in metrics.values())])

        def gradients(state: State, shard: Shard) -> Vector:
            """Return the gradients of one shard and, as the last tensor, its scalars."""
            value, scalars = forward(state, shard)
            raw = torch.autograd.grad(value, parameters, allow_unused=True)
            return [*_separate(raw, parameters), scalars]

        moments = self.moments[name]
        if self._overlaps(name):
            *grads, scalars = self._overlapped_mean(self.buckets[name], forward, gradients)
        else:
            *grads, scalars = self._mean(gradients, append_squared_norm if self.norms else None, moments)
        own = parameters if moments is None else moments.own
        for parameter, gradient in zip(own, grads, strict=True):
            parameter.grad = gradient
        norms = _norms(grads, like=scalars)
        if moments is not None:
            norms = moments.gather_norms(norms)
        if self.norms:
            names += [SHARD_GRADIENT, BATCH_GRADIENT]
            scalars = torch.cat([scalars, norms.float().square().sum()[None]])
        metrics = dict(zip(names, scalars, strict=True))
        metrics["gradient_norm"] = torch.linalg.vector_norm(norms)
        if self.clip is not None and self.clip_by == "norm":
            nn.utils.clip_grads_with_norm_(own, self.clip, metrics["gradient_norm"])
        elif self.clip is not None and self.clip_by == "value":
            nn.utils.clip_grad_value_(own, self.clip)
        self.state.optimizers[name].step()
        for parameter in own:
            parameter.grad = None
        if moments is not None:
            moments.share_parameters()
        return metrics

    def forget_others(self) -> None:
        """Drop the moments of the parameters that other workers update."""
        for name, moments in self.moments.items():
            if moments is not None:
                moments.forget_others(self.state.optimizers[name])

    @contextmanager
    def all_moments(self) -> Iterator[None]:
        """Let rank 0 have the moments of all parameters, to save them; every worker must enter."""
        gathered = {n: m.gather_moments(self.state.optimizers[n]) for n, m in self.moments.items() if m is not None}
        for name, moments in gathered.items():
            self.state.optimizers[name].state |= moments
        try:
            yield
        finally:
            self.forget_others()

    def mean(self, function: Callable[[State, Shard], Vector]) -> Vector:
        """Return what `function` returns, averaged over all shards by their sizes or by `shard.weight`."""
        return self._mean(function)

    def tally(
        self,
        function: Callable[[State, Shard], dict[str, np.ndarray]],
        merge: Callable[[np.ndarray, np.ndarray], np.ndarray] = operator.add,
    ) -> None:
        """Merge what `function` returns for each shard into `state.tables`, in the order of shards, on every worker."""
        draw = self._next_draw()
        shards = zip(self.own_shards, self.batches, strict=True)
        own_counts = [function(self.state, self._shard(index, batch, draw)) for index, batch in shards]
        for counts in (counts for rank_counts in self.peers.gather(own_counts) for counts in rank_counts):
            for name, count in counts.items():
                table = self.state.tables.get(name)
                self.state.tables[name] = count if table is None else merge(table, count)

    # -------------------------------------------------------------------------------------- one shard

    def _next_draw(self) -> int:
        """Return the number of this call within the step, which keys its random streams."""
        draw = self.calls
        self.calls += 1
        return draw

    def _mean(
        self,
        function: Callable[[State, Shard], Vector],
        complete: Callable[[Vector], Vector] | None = None,
        moments: ShardedMoments | None = None,
    ) -> Vector:
        """Return the mean over all shards; `complete` is applied to the values of a full shard.

        `function` itself may see microbatches of a shard. With sharded moments, its values begin with one gradient per
        parameter, and the mean with those of this worker's parameters alone.
        """
        draw, tree, count = self._next_draw(), Tree(add_vectors_), 0
        self.buffers.begin()
        for index, batch, share in zip(self.own_shards, self.batches, self.weights, strict=True):
            values, weight = self._within_memory(function, index, batch, draw)
            if complete is not None:
                values = complete(values)
            count = len(values)
            tree.push(index, 0, self._scaled_leaf(values, share, weight))
        total = self._across_workers(tree, moments)
        if moments is not None:
            count += len(moments.own) - len(moments.parameters)
        self.weight = None if weight is None else total.pop()
        self.buffers.write(total[count:])
        if self.weight is not None and self.shards > 1:
            torch._foreach_div_(total[:count], _divisor(self.weight))
        return total[:count]

    def _overlaps(self, name: str) -> bool:
        """Return whether the exchange of a module's gradients overlaps with the backward pass, on all workers alike."""
        peers = self.peers
        exchanges = peers.size > 1 and not peers.shares_memory and peers.device.type == "cpu"
        plain = self.moments[name] is None and self.accumulate == 1 and not self.norms
        return exchanges and plain and len(self.buckets[name].buckets) > 1

    def _overlapped_mean(
        self,
        buckets: GradientBuckets,
        forward: Callable[[State, Shard], tuple[Tensor, Tensor]],
        gradients: Callable[[State, Shard], Vector],
    ) -> Vector:
        """Return the mean of `gradients` over all shards, exchanged while this worker's last shard goes backwards.

        A shard of new shapes may run out of memory, so its gradients are complete before they are exchanged.
        """
        draw, tree = self._next_draw(), Tree(add_vectors_)
        self.buffers.begin()
        buckets.begin()
        for index, batch, share in zip(self.own_shards, self.batches, self.weights, strict=True):
            is_last = index == self.own_shards[-1]
            if is_last and _shapes_key(batch) in self.fitting:
                self.buffers.rewind()
                shard = self._shard(index, batch, draw)
                loss, scalars = forward(self.state, shard)
                weight = self._weight(shard)
                buckets.backward(loss, index, share if weight is None else weight)
                if shard.carry:
                    self.state.carry[index] = shard.carry
            else:
                (*values, scalars), weight = self._within_memory(gradients, index, batch, draw)
                torch._foreach_mul_(values, share if weight is None else weight)
                buckets.push(index, values, is_last)
            tree.push(index, 0, self._scaled_leaf([scalars], share, weight))
        total = buckets.collect()
        scalars, *rest = self._across_workers(tree)
        self.weight = None if weight is None else rest.pop()
        self.buffers.write(rest)
        if self.weight is not None:
            torch._foreach_div_([*total, scalars], _divisor(self.weight))
        return [*total, scalars]

    def _scaled_leaf(self, values: Vector, share: float, weight: Tensor | None) -> Vector:
        """Return a shard's values and buffers, scaled, as one leaf of the tree; its last tensor is the weight, if any.

        share: of the global batch's examples, by which buffers are scaled, and values without a weight.
        """
        buffers = self.buffers.read()
        leaf = [*values, *buffers]
        if weight is None:
            if share != 1:
                torch._foreach_mul_(leaf, share)
            return leaf
        if self.shards > 1:
            torch._foreach_mul_(values, weight)
            if buffers:
                torch._foreach_mul_(buffers, share)
        return [*leaf, weight]

    def _shard(self, index: int, batch: Batch, draw: int) -> Shard:
        key = stream_seed(self.seed, self.state.step, index, draw)
        for generator in self.global_generators:
            generator.manual_seed(key)
        carry = dict(self.state.carry.get(index, {}))
        return Shard(batch, self.generator.manual_seed(key + 1), index, carry, first=self.starts[index])

    def _within_memory(
        self, function: Callable[[State, Shard], Vector], index: int, batch: Batch, draw: int
    ) -> tuple[Vector, Tensor | None]:
        """Return what `function` returns for a shard, and its weight; out of memory, halve the microbatches and retry.

        The number of microbatches is remembered for shards of the same shapes alone. If it applied to later shards of
        other shapes, the result would depend on which shards this worker had, and on where the run was interrupted.
        """
        key = _shapes_key(batch)
        parts = self.microbatches.get(key, self.accumulate)
        while True:
            self.buffers.rewind()
            try:
                shard = self._shard(index, batch, draw)
                values, weight = self._accumulated(function, shard, parts)
                if parts == 1:
                    self.fitting.add(key)
                if shard.carry:
                    self.state.carry[index] = shard.carry
                return values, weight
            except ValueError as error:
                if ONE_VALUE_PER_CHANNEL not in str(error):
                    raise
                remedy = "raise fit.batch, or lower fit.shards"
                if parts > 1 and _rows(batch) > 1:
                    remedy = (
                        f"with {parts} microbatches per shard, one has a single example:"
                        " lower fit.accumulate or add memory"
                    )
                raise Refusal(f"fit: {ONE_VALUE_PER_CHANNEL} (batch normalisation); {remedy}") from None
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or parts >= _rows(batch):
                    raise
            # outside of `except`: the error, and the tensors that its traceback held, are freed by now
            parts = self.microbatches[key] = min(2 * parts, _rows(batch))
            if self.peers.device.type == "cuda":
                torch.cuda.empty_cache()

    def _accumulated(
        self, function: Callable[[State, Shard], Vector], shard: Shard, parts: int
    ) -> tuple[Vector, Tensor | None]:
        """Return the mean of what `function` returns for `parts` microbatches, and the sum of their weights, if any."""
        if parts == 1:
            return function(self.state, shard), self._weight(shard)
        rows, total, carries, weights = _rows(shard.batch), None, [], []
        for part in range(parts):
            cut = slice(rows * part // parts, rows * (part + 1) // parts)
            if cut.start == cut.stop:
                continue
            batch = {name: values[cut] for name, values in shard.batch.items()}
            carry = {name: values[cut] for name, values in shard.carry.items()}
            chunk = Shard(batch, shard.generator, shard.index, carry, first=shard.first + cut.start)
            values = function(self.state, chunk)
            weight = self._weight(chunk)
            torch._foreach_mul_(values, (cut.stop - cut.start) / rows if weight is None else weight)
            total = values if total is None else add_vectors_(total, values)
            carries.append(chunk.carry)
            weights += [] if weight is None else [weight]
        shard.carry = {name: torch.cat([carry[name] for carry in carries]) for name in carries[0]}
        assert total is not None
        if not weights:
            return total, None
        weight = torch.stack(weights).sum()
        torch._foreach_div_(total, _divisor(weight))
        return total, weight

    def _weight(self, shard: Shard) -> Tensor | None:
        """Return the weight [] that a loss set for a shard or a microbatch, if any."""
        if shard.weight is None:
            return None
        return torch.as_tensor(shard.weight, dtype=torch.float32, device=self.peers.device).clone()

    # -------------------------------------------------------------------------------------- all workers

    def _across_workers(self, tree: Tree, moments: ShardedMoments | None = None) -> Vector:
        """Return the sum over all workers' trees; with sharded moments, of the own gradients and the rest alone."""
        if self.peers.size == 1:
            return tree.total()
        blocks = [value for _, _, value in tree.blocks]
        leaf = blocks[0]
        if moments is None:
            total = self._exchanged(torch.stack([torch.cat([t.reshape(-1) for t in value]) for value in blocks]))
        else:
            leaf = moments.select_own(leaf)
            total = self._summed(moments.parts(blocks))[: sum(t.numel() for t in leaf)]
        for tensor, piece in zip(leaf, total.split([t.numel() for t in leaf]), strict=True):
            # keeps the tensor's memory format, on which the order of later sums depends
            tensor.copy_(piece.view(tensor.shape))
        return leaf

    def _exchanged(self, flat: Tensor) -> Tensor:
        """Return the sum over all workers' blocks [length], from this worker's `flat` [blocks, length]."""
        size, length = self.peers.size, flat.shape[1]
        width = -(-length // size)
        padded = nn.functional.pad(flat, (0, width * size - length))
        return self.peers.all_gather(self._summed(padded.view(len(flat), size, width).transpose(0, 1)))[:length]

    def _summed(self, outgoing: Tensor) -> Tensor:
        """Return the sum [width] over all workers' blocks of what they sent to this one.

        outgoing: what this worker sends to each of them [size, blocks, width].
        """
        size = self.peers.size
        subtrees = [complete_subtrees(owned_shards(self.shards, size, rank)) for rank in range(size)]
        incoming = self.peers.all_to_all(outgoing, [len(blocks) for blocks in subtrees])
        tree = Tree(torch.Tensor.add_)
        for (start, level), row in zip((block for blocks in subtrees for block in blocks), incoming, strict=True):
            tree.push(start, level, row)
        return tree.total()


def _norms(tensors: Vector, like: Tensor) -> Tensor:
    """Return the norm of each tensor [tensors], on the device and in the type of `like` if there are none."""
    return torch.stack(torch._foreach_norm(tensors)) if tensors else like.new_zeros(0)


def _separate(gradients: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> Vector:
    """Return gradients in their parameters' memory formats, none shared or expanded, as those of autograd may be."""
    addresses: set[int] = set()
    separate = []
    for gradient, parameter in zip(gradients, parameters, strict=True):
        if gradient is None:
            gradient = torch.zeros_like(parameter)
        elif gradient.stride() != parameter.stride() or gradient.data_ptr() in addresses:
            gradient = torch.empty_like(parameter).copy_(gradient)
        addresses.add(gradient.data_ptr())
        separate.append(gradient)
    return separate


def _divisor(weight: Tensor) -> Tensor:
    """Return a sum of weights to divide by; a mean over nothing is 0 / tiny = 0, not nan."""
    return weight.clamp(min=torch.finfo(weight.dtype).tiny)


def _global_generators(device: torch.device) -> list[torch.Generator]:
    """Return torch's global generators, to seed them directly: `torch.manual_seed` takes 1 ms without a GPU."""
    if device.type != "cuda":
        return [torch.default_generator]
    torch.cuda.init()
    index = torch.cuda.current_device() if device.index is None else device.index
    return [torch.default_generator, torch.cuda.default_generators[index]]


def _shapes_key(batch: Batch) -> str:
    return str([_shapes(values) for values in batch.values()])


def _shapes(values: Any) -> Any:
    return tuple(values.shape) if isinstance(values, Tensor) else [len(value) for value in values]


def _rows(batch: Batch) -> int:
    return len(next(iter(batch.values())))
