"""Pieces cut out of pictures, each picture's own: resized to one size, or shifted at the same size."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..recipes.ranges import Count, Positive, Proportion
from .draws import check_interval, draw_below

ATTEMPTS = 10  # as in torchvision: then the largest middle piece of an allowed ratio


class Boxes(NamedTuple):
    """Whole pixels, as float32 [B] each."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor


class RandomResizedCrop:
    """[B, C, H, W] -> [B, C, size, size] (size None: [B, C, H, W]), bilinear (notes: random resized crop).

    scale: the piece's share of the area, [least, greatest]; ratio: its width over its height, drawn logarithmically.
    """

    def __init__(
        self,
        size: Count | None = None,
        scale: list[Proportion] = [0.08, 1.0],  # noqa: B006  (never written to)
        ratio: list[Positive] = [3 / 4, 4 / 3],  # noqa: B006
    ) -> None:
        self.size, self.scale, self.ratio = size, check_interval("scale", scale), check_interval("ratio", ratio)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        size = (self.size, self.size) if self.size else (images.shape[2], images.shape[3])
        return resized_crop(images, self.draw(images, generator), size)

    def draw(self, images: Tensor, generator: torch.Generator) -> Boxes:
        """The first of ATTEMPTS random boxes that fits into the picture."""
        count, _, full_height, full_width = images.shape
        draws = torch.rand(2, count, ATTEMPTS, generator=generator, device=generator.device)
        area = (draws[0] * (self.scale[1] - self.scale[0]) + self.scale[0]) * (full_height * full_width)
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        ratio = (draws[1] * (high - low) + low).exp()
        heights, widths = (area / ratio).sqrt().round(), (area * ratio).sqrt().round()
        fits = (heights >= 1) & (heights <= full_height) & (widths >= 1) & (widths <= full_width)
        first = fits.byte().argmax(1, keepdim=True)
        height, width = heights.gather(1, first)[:, 0], widths.gather(1, first)[:, 0]
        none, (middle_height, middle_width) = ~fits.any(1), self._largest(full_height, full_width)
        height, width = height.masked_fill(none, middle_height), width.masked_fill(none, middle_width)
        top, left = draw_below(full_height - height + 1, generator), draw_below(full_width - width + 1, generator)
        top = torch.where(none, (full_height - height).div(2).floor(), top)
        left = torch.where(none, (full_width - width).div(2).floor(), left)
        return Boxes(top, left, height, width)

    def _largest(self, height: int, width: int) -> tuple[int, int]:
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
        return min(height, round(width / ratio)), min(width, round(height * ratio))


def resized_crop(images: Tensor, boxes: Boxes, size: tuple[int, int]) -> Tensor:
    """torchvision's `resized_crop` (bilinear, antialias=False) with a box for each picture: [B, C, *size]."""
    y = _places(boxes.top, boxes.height, size[0], images.shape[2])
    x = _places(boxes.left, boxes.width, size[1], images.shape[3])
    grid = torch.stack([x[:, None, :].expand(-1, *size), y[:, :, None].expand(-1, *size)], dim=3)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _places(start: Tensor, length: Tensor, new: int, full: int) -> Tensor:
    """Where the `new` lines lie in a side of `full` pixels that grid_sample counts from -1 to 1: [B, new]."""
    within = (torch.arange(new, device=start.device) + 0.5) * (length / new)[:, None] - 0.5
    within = torch.minimum(within.clamp_(min=0), (length - 1)[:, None])  # nothing is read outside the piece
    return (within + start[:, None]) * (2 / full) + (1 / full - 1)


class RandomCrop:
    """Shifted by whole pixels, up to `padding` along each side; what comes in is black: [B, C, H, W] -> the same."""

    def __init__(self, padding: Count = 4) -> None:
        self.padding = padding

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        places = torch.full((2 * len(images),), 2.0 * self.padding + 1, device=generator.device)
        top, left = draw_below(places, generator).long().chunk(2)
        return shifted_crop(images, top, left, self.padding)


def shifted_crop(images: Tensor, top: Tensor, left: Tensor, padding: int) -> Tensor:
    """The piece at `top`, `left` [B] of each picture with a black border of `padding` pixels, as large as before."""
    count, _, height, width = images.shape
    padded = F.pad(images, (padding,) * 4)
    rows = top[:, None] + torch.arange(height, device=images.device)
    columns = left[:, None] + torch.arange(width, device=images.device)
    picture = torch.arange(count, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[picture, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
