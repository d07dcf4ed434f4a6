"""The fully connected GAN, for points and other data without spatial structure (Goodfellow et al. 2014)."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn

from ..recipes.ranges import Counts


class Generator(nn.Module):
    """Map latent vectors [B, latent] to unbounded examples [B, *shape]. hidden: widths of the ReLU layers."""

    def __init__(self, latent: int, shape: tuple[int, ...], hidden: Counts = [128, 128]) -> None:  # noqa: B006
        super().__init__()
        self.shape = shape
        self.body = _dense_layers([latent, *hidden])
        self.head = nn.Linear(hidden[-1], math.prod(shape))

    def forward(self, z: Tensor) -> Tensor:
        """Return examples [B, *shape] of latent vectors z [B, latent]."""
        return self.head(self.body(z)).view(-1, *self.shape)


class Discriminator(nn.Module):
    """Map examples [B, *shape] to logits of being real [B]. hidden: widths of the ReLU layers."""

    def __init__(self, shape: tuple[int, ...], hidden: Counts = [128, 128]) -> None:  # noqa: B006
        super().__init__()
        self.body = _dense_layers([math.prod(shape), *hidden])
        self.head = nn.Linear(hidden[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B] of examples [B, *shape]."""
        return self.head(self.body(x.flatten(1))).squeeze(1)


def _dense_layers(widths: list[int]) -> nn.Sequential:
    """Return dense layers with ReLU, from widths[0] to widths[-1] units."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
