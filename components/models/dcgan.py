"""DCGAN: a generator and a discriminator of strided convolutions (Radford et al. 2016).

As in the paper: no pooling; batch normalisation except at the generator's output and the discriminator's input; ReLU
in the generator, leaky ReLU in the discriminator; initial weights with a standard deviation of 0.02.
"""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn

from ..errors import Refusal
from ..recipes.ranges import Counts


class Generator(nn.Module):
    """Map latent vectors [B, latent] to pictures [B, *shape] in -1..1, shape being (C, H, W).

    widths: channels from the smallest map to the largest. Each of them doubles the sides, which must be multiples of
    2 ** len(widths).
    """

    def __init__(self, latent: int, shape: tuple[int, ...], widths: Counts = [128, 64]) -> None:  # noqa: B006
        super().__init__()
        self.first = (widths[0], *half_sides(shape, len(widths)))
        self.start = nn.Linear(latent, math.prod(self.first), bias=False)
        layers: list[nn.Module] = [nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)]
        for fan_in, fan_out in pairwise(widths):
            layers += [nn.ConvTranspose2d(fan_in, fan_out, kernel_size=4, stride=2, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(fan_out), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers)
        self.head = nn.ConvTranspose2d(widths[-1], shape[0], kernel_size=4, stride=2, padding=1)
        self.apply(init_weights)

    def forward(self, z: Tensor) -> Tensor:
        """Return pictures [B, *shape] of latent vectors z [B, latent]."""
        return self.head(self.body(self.start(z).view(-1, *self.first))).tanh()


class Discriminator(nn.Module):
    """Map pictures [B, *shape], shape being (C, H, W), to logits of being real [B].

    widths: channels of the convolutions, each of which halves the sides.
    """

    def __init__(self, shape: tuple[int, ...], widths: Counts = [64, 128]) -> None:  # noqa: B006
        super().__init__()
        height, width = half_sides(shape, len(widths))
        layers: list[nn.Module] = []
        for index, (fan_in, fan_out) in enumerate(zip([shape[0], *widths], widths, strict=False)):
            layers += [nn.Conv2d(fan_in, fan_out, kernel_size=4, stride=2, padding=1, bias=index == 0)]
            if index:
                layers += [nn.BatchNorm2d(fan_out)]
            layers += [nn.LeakyReLU(0.2, inplace=True)]
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(widths[-1] * height * width, 1)
        self.apply(init_weights)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B] of pictures [B, *shape]."""
        return self.head(self.body(x)).squeeze(1)


def half_sides(shape: tuple[int, ...], halvings: int) -> tuple[int, int]:
    """Return height and width of a picture after `halvings` halvings; raise Refusal if they are not divisible."""
    height, width = shape[1:]
    if height % 2**halvings or width % 2**halvings:
        raise Refusal(
            f"task: pictures of {height}x{width} can't be halved {halvings} times; change data.size or widths"
        )
    return height // 2**halvings, width // 2**halvings


def init_weights(layer: nn.Module) -> None:
    """Draw the weights of a layer from a normal distribution with a standard deviation of 0.02."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(layer.weight, std=0.02)
