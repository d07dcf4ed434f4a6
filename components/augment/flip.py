"""Mirror pictures at random, each independently of the others."""

from __future__ import annotations

import torch
from torch import Tensor

from ..recipes.ranges import Fraction
from .draws import draw_uniform


class RandomHorizontalFlip:
    """A flip of pictures [B, C, H, W] that swaps left and right, each with the same probability."""

    def __init__(self, probability: Fraction = 0.5) -> None:
        self.probability = probability

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return _flip(images, 3, self.probability, generator)


class RandomVerticalFlip:
    """A flip of pictures [B, C, H, W] that swaps top and bottom, each with the same probability."""

    def __init__(self, probability: Fraction = 0.5) -> None:
        self.probability = probability

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return _flip(images, 2, self.probability, generator)


def _flip(images: Tensor, axis: int, probability: float, generator: torch.Generator) -> Tensor:
    """Flip each of images [B, C, H, W] along `axis` with `probability`."""
    chosen = (draw_uniform(0, 1, len(images), generator) < probability).to(images.dtype)
    # With weights of 0 and 1 `lerp` is exact, and on a CPU twice as fast as `where`.
    return torch.lerp(images, images.flip(axis), chosen.view(-1, 1, 1, 1))
