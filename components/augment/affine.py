"""Rotate, shift, scale and shear pictures about their centre in one resampling, each picture by its own amounts."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..recipes.ranges import Fraction, NonNegative, Positive
from .draws import check_interval, draw_uniform


class Amounts(NamedTuple):
    """The parameters of an affine transform, one per picture: [B] each."""

    angle: Tensor  # degrees, clockwise
    right: Tensor  # pixels
    down: Tensor  # pixels
    scale: Tensor  # factor
    shear: Tensor  # degrees, along x


class RandomAffine:
    """A random affine transform of pictures [B, C, H, W], which keeps their shape; the border is black.

    degrees, shear: rotation and shear are drawn from -x .. x degrees. translate: the largest shift as a share of the
    side. scale: [smallest, largest] factor.
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
        """Draw the amounts for each of `images` [B, C, H, W], uniformly from their ranges."""
        count, _, height, width = images.shape
        return Amounts(
            angle=draw_uniform(-self.degrees, self.degrees, count, generator),
            right=draw_uniform(-self.translate * width, self.translate * width, count, generator),
            down=draw_uniform(-self.translate * height, self.translate * height, count, generator),
            scale=draw_uniform(*self.scale, count, generator),
            shear=draw_uniform(-self.shear, self.shear, count, generator),
        )


def warp_affine(images: Tensor, angle: Tensor, right: Tensor, down: Tensor, scale: Tensor, shear: Tensor) -> Tensor:
    """Transform images [B, C, H, W] as torchvision's `affine` does (bilinear), but with amounts [B] per picture."""
    height, width = images.shape[2:]
    radians = angle * (math.pi / 180)
    slope = (shear * (math.pi / 180)).tan()
    cos, sin = radians.cos() / scale, radians.sin() / scale
    # The source of each output pixel, in pixels from the centre. Not a matrix product: autocast would round it.
    x = torch.arange(width, device=images.device) - (width - 1) / 2 - right[:, None]
    y = torch.arange(height, device=images.device) - (height - 1) / 2 - down[:, None]
    from_x = _weighted_sum(cos - sin * slope, x, sin + cos * slope, y)
    from_y = _weighted_sum(-sin, x, cos, y)
    grid = torch.stack([from_x * (2 / width), from_y * (2 / height)], dim=3)
    return F.grid_sample(images, grid, align_corners=False)


def _weighted_sum(a: Tensor, x: Tensor, b: Tensor, y: Tensor) -> Tensor:
    """Return a x + b y at every pixel [B, H, W], from a, b [B], x [B, W] and y [B, H]."""
    return (a[:, None] * x)[:, None, :] + (b[:, None] * y)[:, :, None]
