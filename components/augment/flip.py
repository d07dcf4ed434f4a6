"""Pictures mirrored with a given probability, each by its own coin."""

from __future__ import annotations

import torch
from torch import Tensor

from ..recipes.ranges import Fraction
from .draws import draw_uniform


class RandomHorizontalFlip:
    """Left and right exchanged: [B, C, H, W] -> the same shape."""

    def __init__(self, probability: Fraction = 0.5) -> None:
        self.probability = probability

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return _flipped(images, 3, self.probability, generator)


class RandomVerticalFlip:
    """Top and bottom exchanged: [B, C, H, W] -> the same shape."""

    def __init__(self, probability: Fraction = 0.5) -> None:
        self.probability = probability

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return _flipped(images, 2, self.probability, generator)


def _flipped(images: Tensor, axis: int, probability: float, generator: torch.Generator) -> Tensor:
    chosen = (draw_uniform(0, 1, len(images), generator) < probability).to(images.dtype)
    # With weights of 0 and 1 `lerp` is exact, and on a processor twice as fast as `where`.
    return torch.lerp(images, images.flip(axis), chosen.view(-1, 1, 1, 1))
