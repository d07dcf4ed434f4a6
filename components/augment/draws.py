"""What the transforms draw, one number a picture, from the shard's own stream and on its device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from components.refusal import Refusal


def uniform(low: float, high: float, count: int, generator: torch.Generator) -> Tensor:
    """float32 [count] between `low` and `high`."""
    return torch.rand(count, generator=generator, device=generator.device).mul_(high - low).add_(low)


def below(limit: Tensor, generator: torch.Generator) -> Tensor:
    """Whole numbers (as float32) from 0 to each of `limit` - 1, all equally likely: [B]."""
    return (torch.rand(len(limit), generator=generator, device=generator.device) * limit).floor().minimum(limit - 1)


def interval(name: str, values: Sequence[float]) -> tuple[float, float]:
    """`values` as (low, high), refused unless it is that."""
    if len(values) != 2 or not 0 < values[0] <= values[1]:
        raise Refusal(f"{name}: {list(values)} is no [low, high] of numbers above 0; write for example [0.9, 1.1]")
    return float(values[0]), float(values[1])
