"""Encode the positions of tokens for layers that ignore order (notes: positional encoding)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sinusoids(count: int, width: int, first: int = 0, device: torch.device | None = None) -> Tensor:
    """Return the encodings of positions first ... first + count - 1: float32 [count, width], for an even width.

    Column 2i is sin(p / 10000^(2i / width)), column 2i + 1 its cosine (Vaswani et al. 2017).
    """
    positions = torch.arange(first, first + count, device=device, dtype=torch.float32)[:, None]
    rates = torch.exp(torch.arange(0, width, 2, device=device, dtype=torch.float32) * (-math.log(10000.0) / width))
    return torch.stack([torch.sin(positions * rates), torch.cos(positions * rates)], dim=2).flatten(1)
