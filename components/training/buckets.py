"""Exchange gradients in buckets while the backward pass goes on (as DistributedDataParallel does, Li et al. 2020).

The buckets hold parameters in reverse order, which is about the order in which their gradients are ready. A thread
exchanges them one after another, in the same order on every worker. Each element is summed over the same tree as
without buckets, so the sums are the same, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

from .tree import Tree, Vector, add_vectors_

BUCKET_BYTES = 2**20


def fill_buckets(sizes: list[int], limit: int = BUCKET_BYTES) -> list[list[int]]:
    """Return the indices of parameters by bucket, last parameter first; sizes: in bytes, `limit`: of a bucket."""
    buckets: list[list[int]] = []
    room = 0
    for index in reversed(range(len(sizes))):
        if not buckets or sizes[index] > room:
            buckets.append([])
            room = limit
        buckets[-1].append(index)
        room -= sizes[index]
    return buckets


class GradientBuckets:
    """The buckets of one module's parameters and, during a step, one tree over the shards for each of them."""

    def __init__(self, parameters: list[nn.Parameter], exchange: Callable[[Tree], Vector]) -> None:
        """Divide `parameters` into buckets; exchange: sums a tree of vectors over all workers."""
        self.parameters, self.exchange = parameters, exchange
        self.buckets = fill_buckets([p.nbytes for p in parameters])
        self.bucket_of = {index: number for number, bucket in enumerate(self.buckets) for index in bucket}
        self.thread = ThreadPoolExecutor(1)
        self.begin()

    def begin(self) -> None:
        """Begin a step."""
        self.trees = [Tree(add_vectors_) for _ in self.buckets]
        self.sums: list[Future[Vector]] = []

    def push(self, shard: int, gradients: Vector, is_last: bool) -> None:
        """Add the scaled gradients of a shard; after this worker's last shard, exchange the sums."""
        for number, bucket in enumerate(self.buckets):
            self.trees[number].push(shard, 0, [gradients[index] for index in bucket])
            if is_last:
                self.sums.append(self.thread.submit(self.exchange, self.trees[number]))

    def backward(self, loss: Tensor, shard: int, factor: Tensor | float | None) -> None:
        """Compute the gradients of this worker's last shard, and exchange each bucket once it is complete.

        factor: the weight of the shard, by which its gradients are scaled.
        """
        ready: dict[int, Tensor] = {}
        missing = [len(bucket) for bucket in self.buckets]

        def send_complete() -> None:
            while len(self.sums) < len(self.buckets) and not missing[len(self.sums)]:
                number = len(self.sums)
                vector = [ready.pop(index) for index in self.buckets[number]]
                if factor is not None:
                    torch._foreach_mul_(vector, factor)
                self.trees[number].push(shard, 0, vector)
                self.sums.append(self.thread.submit(self.exchange, self.trees[number]))

        def receive(index: int, gradient: Tensor | None) -> None:
            """Copy a gradient, because autograd may share it, in the parameter's memory format."""
            like = self.parameters[index].detach()
            ready[index] = torch.zeros_like(like) if gradient is None else torch.empty_like(like).copy_(gradient)
            missing[self.bucket_of[index]] -= 1
            send_complete()

        def hook(index: int) -> Callable[[Tensor], None]:
            return lambda gradient: receive(index, gradient.detach())

        handles: list[Any] = [parameter.register_hook(hook(index)) for index, parameter in enumerate(self.parameters)]
        try:
            torch.autograd.grad(loss, self.parameters, allow_unused=True)
        finally:
            for handle in handles:
                handle.remove()
        for bucket in self.buckets[len(self.sums) :]:
            for index in bucket:
                if index not in ready and missing[self.bucket_of[index]]:
                    receive(index, None)

    def collect(self) -> Vector:
        """Wait for the exchange; return the sums over all shards, one per parameter."""
        total: dict[int, Tensor] = {}
        for bucket, future in zip(self.buckets, self.sums, strict=True):
            total |= zip(bucket, future.result(), strict=True)
        return [total[index] for index in range(len(self.parameters))]
