"""Draw the random numbers of transforms, one per picture, from the random stream of a shard and on its device."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import Refusal


def draw_uniform(low: float, high: float, count: int, generator: torch.Generator) -> Tensor:
    """Draw numbers between `low` and `high`: float32 [count]."""
    return torch.rand(count, generator=generator, device=generator.device).mul_(high - low).add_(low)


def draw_below(limit: Tensor, generator: torch.Generator) -> Tensor:
    """Draw whole numbers from 0 to `limit` - 1 [B], all equally likely: float32 [B]."""
    return (torch.rand(len(limit), generator=generator, device=generator.device) * limit).floor().minimum(limit - 1)


def host_random(generator: torch.Generator) -> random.Random:
    """Return a generator on the host, seeded by the state of the stream, whose caller must also draw from the stream.

    Reading a number that was drawn on a GPU would stall it. The state of its stream is on the host.
    """
    if generator.device.type == "cpu":
        return random.Random(int(torch.randint(1 << 62, (), generator=generator)))
    return random.Random(generator.get_state().numpy().tobytes())


def per_picture(amount: Tensor) -> Tensor:
    """Reshape [B] to [B, 1, 1, 1], which broadcasts over pictures [B, C, H, W]."""
    return amount.view(-1, 1, 1, 1)


def check_interval(name: str, values: Sequence[float]) -> tuple[float, float]:
    """Return `values` as (low, high); raise Refusal unless it holds two ascending numbers above 0."""
    if len(values) != 2 or not 0 < values[0] <= values[1]:
        raise Refusal(
            f"{name}: {list(values)} is not a valid [low, high] with 0 < low <= high; write, for example, [0.9, 1.1]"
        )
    return float(values[0]), float(values[1])
