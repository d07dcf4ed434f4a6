"""What the transforms draw, one number a picture, from the shard's own stream and on its device."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import Refusal


def draw_uniform(low: float, high: float, count: int, generator: torch.Generator) -> Tensor:
    """float32 [count] between `low` and `high`."""
    return torch.rand(count, generator=generator, device=generator.device).mul_(high - low).add_(low)


def draw_below(limit: Tensor, generator: torch.Generator) -> Tensor:
    """Whole numbers (as float32) from 0 to each of `limit` - 1, all equally likely: [B]."""
    return (torch.rand(len(limit), generator=generator, device=generator.device) * limit).floor().minimum(limit - 1)


def host_random(generator: torch.Generator) -> random.Random:
    """Random numbers on the host that follow from where the stream stands, for a caller that draws from it, too.

    A number drawn on a GPU would have to be waited for; its stream's seed, and how far that has come, lie on the host.
    """
    if generator.device.type == "cpu":
        return random.Random(int(torch.randint(1 << 62, (), generator=generator)))
    return random.Random(generator.get_state().numpy().tobytes())


def per_picture(amount: Tensor) -> Tensor:
    """[B] -> [B, 1, 1, 1], to go with pictures."""
    return amount.view(-1, 1, 1, 1)


def check_interval(name: str, values: Sequence[float]) -> tuple[float, float]:
    """`values` as (low, high), refused unless it is that."""
    if len(values) != 2 or not 0 < values[0] <= values[1]:
        raise Refusal(f"{name}: {list(values)} is no [low, high] of numbers above 0; write for example [0.9, 1.1]")
    return float(values[0]), float(values[1])
