"""Where a token stands, for layers that see a set (notes: positional encoding)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sinusoids(count: int, width: int, first: int = 0, device: torch.device | None = None) -> Tensor:
    """sin(p / 10000^(2i / width)) in column 2i, its cosine in 2i + 1, for p = first ... (Vaswani et al. 2017).

    float32 [count, width], of an even width.
    """
    p = torch.arange(first, first + count, device=device, dtype=torch.float32)[:, None]
    rates = torch.exp(torch.arange(0, width, 2, device=device, dtype=torch.float32) * (-math.log(10000.0) / width))
    return torch.stack([torch.sin(p * rates), torch.cos(p * rates)], dim=2).flatten(1)
