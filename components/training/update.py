"""Shards -> gradients -> one fixed tree -> clip -> optimiser step, whichever worker computed which shard.

The global batch of a step is cut into `shards` slices. Each slice has its own random stream and its own batch
statistics. The results, scaled by the weights of their slices, are summed over a binary tree whose shape depends on the
number of slices alone. A weight is the slice's share of the examples or, where the loss sets one, the number of tokens,
boxes or the like that it is a mean over; the total is then divided by the sum of these over the same tree.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from .buckets import GradientBuckets
from .buffers import ModuleBuffers
from .exchange import Exchange
from .microbatches import MicrobatchRunner, weight_divisor
from .moments import Moments, ShardedMoments, shard_moments
from .noise_scale import BATCH_GRADIENT, SHARD_GRADIENT, append_squared_norm
from .peers import Peers
from .task import Batch, Loss, Shard, State
from .tree import Tree, Vector, add_vectors_, owned_shards


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
        self.batches: list[Batch] = []
        self.weights: list[float] = []
        self.examples = 0  # of the step, over all workers
        self.weight: Tensor | None = None  # the sum of the weights [] that losses set in the latest mean
        self.calls = 0
        self.parameters = {n: [p for p in m.parameters() if p.requires_grad] for n, m in state.modules.items()}
        self.moments = {name: shard_moments(self.parameters[name], peers, moments) for name in state.optimizers}
        self.buffers = ModuleBuffers([b for m in state.modules.values() for b in m.buffers()], averaged=shards > 1)
        self.runner = MicrobatchRunner(state, self.buffers, peers.device, seed=seed, parts=accumulate)
        self.exchange = Exchange(peers, shards)
        self.buckets = {name: GradientBuckets(p, self.exchange) for name, p in self.parameters.items()}

    def begin(self, batches: list[Batch], sizes: list[int]) -> None:
        """Begin a step with this worker's shards and the sizes of all shards [shards]."""
        self.batches, self.calls, self.weight = batches, 0, None
        self.examples = sum(sizes)
        self.weights = [sizes[index] / self.examples for index in self.own_shards]
        self.runner.starts = {index: sum(sizes[:index]) for index in self.own_shards}

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
        own_counts = [function(self.state, self.runner.shard(index, batch, draw)) for index, batch in shards]
        for counts in (counts for rank_counts in self.peers.gather(own_counts) for counts in rank_counts):
            for name, count in counts.items():
                table = self.state.tables.get(name)
                self.state.tables[name] = count if table is None else merge(table, count)

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
            values, weight = self.runner.run(function, index, batch, draw)
            if complete is not None:
                values = complete(values)
            count = len(values)
            tree.push(index, 0, self._scaled_leaf(values, share, weight))
        total = self.exchange(tree, moments)
        if moments is not None:
            count += len(moments.own) - len(moments.parameters)
        self.weight = None if weight is None else total.pop()
        self.buffers.write(total[count:])
        if self.weight is not None and self.shards > 1:
            torch._foreach_div_(total[:count], weight_divisor(self.weight))
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
            if is_last and self.runner.fits(batch):
                self.buffers.rewind()
                shard = self.runner.shard(index, batch, draw)
                loss, scalars = forward(self.state, shard)
                weight = self.runner.weight(shard)
                buckets.backward(loss, index, share if weight is None else weight)
                if shard.carry:
                    self.state.carry[index] = shard.carry
            else:
                (*values, scalars), weight = self.runner.run(gradients, index, batch, draw)
                torch._foreach_mul_(values, share if weight is None else weight)
                buckets.push(index, values, is_last)
            tree.push(index, 0, self._scaled_leaf([scalars], share, weight))
        total = buckets.collect()
        scalars, *rest = self.exchange(tree)
        self.weight = None if weight is None else rest.pop()
        self.buffers.write(rest)
        if self.weight is not None:
            torch._foreach_div_([*total, scalars], weight_divisor(self.weight))
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
