"""Crop pictures at random, each picture its own box: resized to one size, or shifted at the same size."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..recipes.ranges import Count, Positive, Proportion
from .draws import check_interval, draw_below

ATTEMPTS = 10  # as in torchvision, which then takes the largest centre crop of an allowed ratio


class Boxes(NamedTuple):
    """One box per picture, in whole pixels: float32 [B] each."""

    y: Tensor  # of the top edge
    x: Tensor  # of the left edge
    height: Tensor
    width: Tensor


class RandomResizedCrop:
    """A random crop of pictures [B, C, H, W], resized to [B, C, size, size] by bilinear interpolation.

    Without `size` the pictures keep their shape. scale: [smallest, largest] share of the area. ratio: [smallest,
    largest] width over height, drawn uniformly on a log scale (notes: random resized crop).
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
        """Draw one box per picture: the first of ATTEMPTS that fits, otherwise the largest centre crop."""
        count, _, full_height, full_width = images.shape
        draws = torch.rand(2, count, ATTEMPTS, generator=generator, device=generator.device)
        area = (draws[0] * (self.scale[1] - self.scale[0]) + self.scale[0]) * (full_height * full_width)
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        ratio = (draws[1] * (high - low) + low).exp()
        heights, widths = (area / ratio).sqrt().round(), (area * ratio).sqrt().round()
        fits = (heights >= 1) & (heights <= full_height) & (widths >= 1) & (widths <= full_width)
        first = fits.byte().argmax(1, keepdim=True)
        none_fits = ~fits.any(1)
        largest_height, largest_width = self._largest_crop(full_height, full_width)
        height = heights.gather(1, first)[:, 0].masked_fill(none_fits, largest_height)
        width = widths.gather(1, first)[:, 0].masked_fill(none_fits, largest_width)
        y = draw_below(full_height - height + 1, generator)
        x = draw_below(full_width - width + 1, generator)
        y = torch.where(none_fits, (full_height - height).div(2).floor(), y)
        x = torch.where(none_fits, (full_width - width).div(2).floor(), x)
        return Boxes(y, x, height, width)

    def _largest_crop(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the largest crop of an allowed ratio."""
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
        return min(height, round(width / ratio)), min(width, round(height * ratio))


def resized_crop(images: Tensor, boxes: Boxes, size: tuple[int, int]) -> Tensor:
    """Crop images [B, C, H, W], each to its own box, and resize them to [B, C, *size].

    Matches torchvision's `resized_crop` (bilinear, antialias=False).
    """
    y = _sampling_positions(boxes.y, boxes.height, size[0], images.shape[2])
    x = _sampling_positions(boxes.x, boxes.width, size[1], images.shape[3])
    grid = torch.stack([x[:, None, :].expand(-1, *size), y[:, :, None].expand(-1, *size)], dim=3)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _sampling_positions(start: Tensor, length: Tensor, new: int, full: int) -> Tensor:
    """Return the positions [B, new] at which a side of `full` pixels is sampled, in grid_sample's range -1..1.

    start, length [B]: the first pixel of the crop along this side, and its number of pixels.
    """
    offset = (torch.arange(new, device=start.device) + 0.5) * (length / new)[:, None] - 0.5
    # Clamped, so that no pixel outside the crop is read.
    offset = torch.minimum(offset.clamp_(min=0), (length - 1)[:, None])
    return (offset + start[:, None]) * (2 / full) + (1 / full - 1)


class RandomCrop:
    """A random shift of pictures [B, C, H, W] by up to `padding` whole pixels per axis; the border is black."""

    def __init__(self, padding: Count = 4) -> None:
        self.padding = padding

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        choices = torch.full((2 * len(images),), 2.0 * self.padding + 1, device=generator.device)
        y, x = draw_below(choices, generator).long().chunk(2)
        return shifted_crop(images, y, x, self.padding)


def shifted_crop(images: Tensor, y: Tensor, x: Tensor, padding: int) -> Tensor:
    """Pad images [B, C, H, W] by `padding` black pixels, then crop each to [C, H, W] at its own y, x [B]."""
    count, _, height, width = images.shape
    padded = F.pad(images, (padding,) * 4)
    rows = y[:, None] + torch.arange(height, device=images.device)
    columns = x[:, None] + torch.arange(width, device=images.device)
    picture = torch.arange(count, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[picture, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
