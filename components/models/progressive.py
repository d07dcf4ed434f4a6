"""Networks that grow while they are trained: small pictures first, then twice their sides (Karras et al. 2018).

`level` is a number from 0 to stages - 1. At a whole number the networks work on pictures of that stage's size. In
between, the new layers fade in: their result is mixed with the enlarged result of the smaller network.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..recipes.ranges import Counts
from .dcgan import half_sides, init_weights


class Generator(nn.Module):
    """Map latent vectors [B, latent] to pictures [B, C, h, w] in -1..1 of the size of a level.

    shape: (C, H, W) of the last stage. widths: channels of each stage; each stage doubles the sides of the one before.
    """

    def __init__(self, latent: int, shape: tuple[int, ...], widths: Counts = [64, 48, 32]) -> None:  # noqa: B006
        super().__init__()
        self.first = (widths[0], *half_sides(shape, len(widths) - 1))
        self.start = nn.Sequential(nn.Linear(latent, math.prod(self.first), bias=False))
        self.stages = nn.ModuleList([_generator_stage(widths[0], widths[0])])
        self.stages.extend(_generator_stage(fan_in, fan_out) for fan_in, fan_out in pairwise(widths))
        self.heads = nn.ModuleList(nn.Conv2d(width, shape[0], kernel_size=1) for width in widths)
        self.apply(init_weights)

    def forward(self, z: Tensor, level: float) -> Tensor:
        """Return pictures of latent vectors z [B, latent] at `level`."""
        last = math.ceil(level)
        x = self.stages[0](self.start(z).view(-1, *self.first))
        before = x
        for stage in list(self.stages)[1 : last + 1]:
            before, x = x, stage(F.interpolate(x, scale_factor=2.0))
        picture = self.heads[last](x).tanh()
        if level < last:
            smaller = F.interpolate(self.heads[last - 1](before).tanh(), scale_factor=2.0)
            picture = torch.lerp(smaller, picture, level - last + 1)
        return picture


class Discriminator(nn.Module):
    """Map pictures [B, C, h, w] of the size of a level to logits [B] of being real; `widths` as for the generator."""

    def __init__(self, shape: tuple[int, ...], widths: Counts = [64, 48, 32]) -> None:  # noqa: B006
        super().__init__()
        height, width = half_sides(shape, len(widths) - 1)
        self.heads = nn.ModuleList(nn.Conv2d(shape[0], channels, kernel_size=1) for channels in widths)
        self.stages = nn.ModuleList([_discriminator_stage(widths[0], widths[0])])
        self.stages.extend(_discriminator_stage(fan_in, fan_out) for fan_out, fan_in in pairwise(widths))
        self.last = nn.Linear(widths[0] * height * width, 1)
        self.apply(init_weights)

    def forward(self, x: Tensor, level: float) -> Tensor:
        """Return logits [B] of pictures x [B, C, h, w]."""
        last = math.ceil(level)
        features = self.heads[last](x)
        for number in range(last, 0, -1):
            features = F.avg_pool2d(self.stages[number](features), 2)
            if number == last and level < last:
                features = torch.lerp(self.heads[last - 1](F.avg_pool2d(x, 2)), features, level - last + 1)
        return self.last(self.stages[0](features).flatten(1)).squeeze(1)


def _generator_stage(fan_in: int, fan_out: int) -> nn.Sequential:
    layer = nn.Conv2d(fan_in, fan_out, kernel_size=3, padding=1, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(fan_out), nn.ReLU())


def _discriminator_stage(fan_in: int, fan_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(fan_in, fan_out, kernel_size=3, padding=1), nn.LeakyReLU(0.2))
