"""Moving pictures: a still picture and a sequence of poses in, a film out (notes: moving portraits).

A film of T frames is a picture [T, H, W]: one channel per frame. The generator draws each frame on its own, from the
features of the still and one pose; the discriminator sees the film together with the still and all poses.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..recipes.ranges import Count, Counts
from .dcgan import Discriminator as PictureDiscriminator
from .dcgan import half_sides, init_weights


class Generator(nn.Module):
    """Map stills [B, *source] and poses [B, *pose] to films [B, *shape] in -1..1.

    source (C, H, W), pose (T, P), shape (T, H, W). widths: channels of the convolutions that halve the sides. hidden:
    units of the dense layer that combines the features of the still with a pose.
    """

    def __init__(
        self,
        source: tuple[int, ...],
        shape: tuple[int, ...],
        pose: tuple[int, ...],
        widths: Counts = [32, 64],  # noqa: B006  (never written to)
        hidden: Count = 256,
    ) -> None:
        super().__init__()
        self.smallest = (widths[-1], *half_sides(shape, len(widths)))
        layers: list[nn.Module] = []
        for fan_in, fan_out in zip([source[0], *widths], widths, strict=False):
            layers += [nn.Conv2d(fan_in, fan_out, kernel_size=4, stride=2, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(fan_out), nn.LeakyReLU(0.2)]
        self.still = nn.Sequential(*layers, nn.Flatten(), nn.Linear(math.prod(self.smallest), hidden))
        self.pose = nn.Sequential(nn.Linear(pose[1], hidden), nn.ReLU(), nn.Linear(hidden, hidden))
        self.mix = nn.Sequential(nn.ReLU(), nn.Linear(hidden, hidden), nn.BatchNorm1d(hidden), nn.ReLU())
        self.start = nn.Linear(hidden, math.prod(self.smallest), bias=False)
        layers = [nn.BatchNorm2d(widths[-1]), nn.ReLU()]
        for fan_in, fan_out in zip(reversed(widths), [*reversed(widths[:-1])], strict=False):
            layers += [nn.ConvTranspose2d(fan_in, fan_out, kernel_size=4, stride=2, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(fan_out), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.ConvTranspose2d(widths[0], 1, kernel_size=4, stride=2, padding=1)

    def forward(self, source: Tensor, pose: Tensor) -> Tensor:
        """Return films [B, T, H, W]."""
        count, frames = pose.shape[:2]
        code = self.mix((self.still(source)[:, None] + self.pose(pose)).flatten(0, 1))
        x = self.start(code).view(count * frames, *self.smallest)
        return self.head(self.body(x)).tanh().view(count, frames, *source.shape[2:])


class Discriminator(nn.Module):
    """Map films [B, *shape], stills [B, *source] and poses [B, *pose] to logits [B] of being real and matching."""

    def __init__(
        self,
        source: tuple[int, ...],
        shape: tuple[int, ...],
        pose: tuple[int, ...],
        widths: Counts = [32, 64],  # noqa: B006
    ) -> None:
        super().__init__()
        net = PictureDiscriminator((shape[0] + source[0], *shape[1:]), widths)
        self.body, self.head = net.body, net.head
        self.pose = nn.Sequential(
            nn.Flatten(), nn.Linear(math.prod(pose), 64), nn.ReLU(), nn.Linear(64, net.head.in_features)
        )
        self.pose.apply(init_weights)

    def forward(self, x: Tensor, source: Tensor, pose: Tensor) -> Tensor:
        """Return logits [B] of films x [B, *shape]."""
        features = self.body(torch.cat([x, source], dim=1))
        return self.head(features).squeeze(1) + (features * self.pose(pose)).sum(1)
