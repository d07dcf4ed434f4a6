"""Run a function on one shard: with its own random stream, and in as many microbatches as the memory asks for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import Refusal
from .buffers import ModuleBuffers
from .memory import is_out_of_memory
from .task import Batch, Shard, State
from .tree import Vector, add_vectors_

# torch's error text, the same for every batch normalisation
ONE_VALUE_PER_CHANNEL = "Expected more than 1 value per channel when training"


def stream_seed(seed: int, step: int, shard: int, draw: int = 0) -> int:
    """Return a 63-bit seed, a pure function of (seed, step, shard, draw)."""
    key = f"{seed}/{step}/{shard}/{draw}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1


def weight_divisor(weight: Tensor) -> Tensor:
    """Return a sum of weights to divide by; a mean over nothing is 0 / tiny = 0, not nan."""
    return weight.clamp(min=torch.finfo(weight.dtype).tiny)


class MicrobatchRunner:
    """Runs functions of (state, shard) on the shards of a step.

    The number of microbatches is remembered for shards of the same shapes alone. If it applied to later shards of other
    shapes, the result would depend on which shards this worker had, and on where the run was interrupted.
    """

    def __init__(self, state: State, buffers: ModuleBuffers, device: torch.device, *, seed: int, parts: int) -> None:
        """Run on `state`, whose buffers are rewound before each try.

        parts: microbatches of a shard as long as the memory is enough.
        """
        self.state, self.buffers, self.device, self.seed, self.parts = state, buffers, device, seed, parts
        self.reduced: dict[str, int] = {}  # number of microbatches, by the shapes of shards that ran out of memory
        self.fitting: set[str] = set()  # shapes of shards for which the memory was enough
        self.starts: dict[int, int] = {}  # shard -> the position of its first example in the step's batch
        self.generator = torch.Generator(device)
        self.global_generators = _global_generators(device)

    def shard(self, index: int, batch: Batch, draw: int) -> Shard:
        """Return a shard with the random stream of its number and of the call's number within the step."""
        key = stream_seed(self.seed, self.state.step, index, draw)
        for generator in self.global_generators:
            generator.manual_seed(key)
        carry = dict(self.state.carry.get(index, {}))
        return Shard(batch, self.generator.manual_seed(key + 1), index, carry, first=self.starts[index])

    def fits(self, batch: Batch) -> bool:
        """Return whether a whole shard of these shapes is known to fit into memory."""
        return _shapes_key(batch) in self.fitting

    def weight(self, shard: Shard) -> Tensor | None:
        """Return the weight [] that a loss set for a shard or a microbatch, if any."""
        if shard.weight is None:
            return None
        return torch.as_tensor(shard.weight, dtype=torch.float32, device=self.device).clone()

    def run(
        self, function: Callable[[State, Shard], Vector], index: int, batch: Batch, draw: int
    ) -> tuple[Vector, Tensor | None]:
        """Return what `function` returns for a shard, and its weight; out of memory, halve the microbatches and retry.

        Raise Refusal if batch normalisation sees a single example.
        """
        key = _shapes_key(batch)
        parts = self.reduced.get(key, self.parts)
        while True:
            self.buffers.rewind()
            try:
                shard = self.shard(index, batch, draw)
                values, weight = self._accumulate(function, shard, parts)
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
            parts = self.reduced[key] = min(2 * parts, _rows(batch))
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _accumulate(
        self, function: Callable[[State, Shard], Vector], shard: Shard, parts: int
    ) -> tuple[Vector, Tensor | None]:
        """Return the mean of what `function` returns for `parts` microbatches, and the sum of their weights, if any."""
        if parts == 1:
            return function(self.state, shard), self.weight(shard)
        rows, total, carries, weights = _rows(shard.batch), None, [], []
        for part in range(parts):
            cut = slice(rows * part // parts, rows * (part + 1) // parts)
            if cut.start == cut.stop:
                continue
            batch = {name: values[cut] for name, values in shard.batch.items()}
            carry = {name: values[cut] for name, values in shard.carry.items()}
            chunk = Shard(batch, shard.generator, shard.index, carry, first=shard.first + cut.start)
            values = function(self.state, chunk)
            weight = self.weight(chunk)
            torch._foreach_mul_(values, (cut.stop - cut.start) / rows if weight is None else weight)
            total = values if total is None else add_vectors_(total, values)
            carries.append(chunk.carry)
            weights += [] if weight is None else [weight]
        shard.carry = {name: torch.cat([carry[name] for carry in carries]) for name in carries[0]}
        assert total is not None
        if not weights:
            return total, None
        weight = torch.stack(weights).sum()
        torch._foreach_div_(total, weight_divisor(weight))
        return total, weight


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
