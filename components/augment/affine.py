"""Pictures turned, shifted, scaled and slanted about their middle, each by its own amounts, in one resampling."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..recipes.ranges import Fraction, NonNegative, Positive
from .draws import check_interval, draw_uniform


class Amounts(NamedTuple):
    angle: Tensor  # degrees, clockwise [B]
    right: Tensor  # pixels [B]
    down: Tensor  # pixels [B]
    scale: Tensor  # factor [B]
    shear: Tensor  # degrees along x [B]


class RandomAffine:
    """[B, C, H, W] -> the same shape; what comes in from outside is black.

    degrees, shear: the greatest turn and slant either way; translate: the greatest shift as a share of the side;
    scale: [smallest, largest] factor.
    """

    def __init__(
        self,
        degrees: NonNegative = 0.0,
        translate: Fraction = 0.0,
        scale: list[Positive] = [1.0, 1.0],  # noqa: B006  (never written to)
        shear: NonNegative = 0.0,
    ) -> None:
        self.degrees, self.translate, self.shear = degrees, translate, shear
        self.scale = check_interval("scale", scale)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return warp_affine(images, *self.draw(images, generator))

    def draw(self, images: Tensor, generator: torch.Generator) -> Amounts:
        count, _, height, width = images.shape
        return Amounts(
            angle=draw_uniform(-self.degrees, self.degrees, count, generator),
            right=draw_uniform(-self.translate * width, self.translate * width, count, generator),
            down=draw_uniform(-self.translate * height, self.translate * height, count, generator),
            scale=draw_uniform(*self.scale, count, generator),
            shear=draw_uniform(-self.shear, self.shear, count, generator),
        )


def warp_affine(images: Tensor, angle: Tensor, right: Tensor, down: Tensor, scale: Tensor, shear: Tensor) -> Tensor:
    """torchvision's `affine`, bilinear, with an amount [B] for each picture."""
    height, width = images.shape[2:]
    turn, slant = angle * (math.pi / 180), (shear * (math.pi / 180)).tan()
    cos, sin = turn.cos() / scale, turn.sin() / scale
    # Where each output pixel comes from, in pixels from the middle. No matmul: under autocast it would lose the digits.
    x = torch.arange(width, device=images.device) - (width - 1) / 2 - right[:, None]
    y = torch.arange(height, device=images.device) - (height - 1) / 2 - down[:, None]
    from_x = _outer(cos - sin * slant, x, sin + cos * slant, y)
    from_y = _outer(-sin, x, cos, y)
    grid = torch.stack([from_x * (2 / width), from_y * (2 / height)], dim=3)
    return F.grid_sample(images, grid, align_corners=False)


def _outer(a: Tensor, x: Tensor, b: Tensor, y: Tensor) -> Tensor:
    """a x + b y at every pixel: [B, H, W]."""
    return (a[:, None] * x)[:, None, :] + (b[:, None] * y)[:, :, None]
