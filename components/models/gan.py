"""The fully connected GAN: for points, and for what has no neighbourhood (Goodfellow et al. 2014)."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn

from ..recipes.ranges import Count


class Generator(nn.Module):
    """Latent vectors [B, latent] -> examples [B, *shape], unbounded. hidden: widths of the ReLU layers."""

    def __init__(self, latent: int, shape: tuple[int, ...], hidden: list[Count] = [128, 128]) -> None:  # noqa: B006
        super().__init__()
        self.shape = shape
        self.body = _layers([latent, *hidden])
        self.head = nn.Linear(hidden[-1], math.prod(shape))

    def forward(self, z: Tensor) -> Tensor:
        return self.head(self.body(z)).view(-1, *self.shape)


class Discriminator(nn.Module):
    """Examples [B, *shape] -> logits of being real [B]."""

    def __init__(self, shape: tuple[int, ...], hidden: list[Count] = [128, 128]) -> None:  # noqa: B006
        super().__init__()
        self.body = _layers([math.prod(shape), *hidden])
        self.head = nn.Linear(hidden[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x.flatten(1))).squeeze(1)


def _layers(widths: list[int]) -> nn.Sequential:
    return nn.Sequential(*(layer for pair in pairwise(widths) for layer in (nn.Linear(*pair), nn.ReLU(inplace=True))))
