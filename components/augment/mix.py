"""Pictures mixed in pairs, and with them their labels: mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019).

Each picture is mixed with the one before it (the first with the last), by a share of its own: batches are shuffled.
[B, C, H, W] -> the same, and the share [B] that is left of each picture: what its own label weighs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..recipes.ranges import Positive


class MixUp:
    """share * picture + (1 - share) * the one before it, the share drawn from Beta(alpha, alpha)."""

    def __init__(self, alpha: Positive = 0.2) -> None:
        self.alpha = alpha

    def __call__(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        share = draw_beta(self.alpha, len(images), generator)
        return mix_pairs(images, share), share


class CutMix:
    """A box of the picture before replaces the same box: 1 - Beta(alpha, alpha) of the area, less what sticks out.

    The box's middle lies anywhere in the picture.
    """

    def __init__(self, alpha: Positive = 1.0) -> None:
        self.alpha = alpha

    def __call__(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        area = 1 - draw_beta(self.alpha, len(images), generator)
        middle = torch.rand(2, len(images), generator=generator, device=generator.device)
        return paste_boxes(images, area, middle[0], middle[1])


def mix_pairs(images: Tensor, share: Tensor) -> Tensor:
    return torch.lerp(images.roll(1, 0), images, share.view(-1, 1, 1, 1))


def paste_boxes(images: Tensor, area: Tensor, down: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """area: of the box, as a share; down, right: of its middle, in 0..1 of the picture's sides [B]."""
    height, width = images.shape[2:]
    rows, tall = _within(down, area, height)
    columns, wide = _within(right, area, width)
    box = rows[:, None, :, None] & columns[:, None, None, :]
    return torch.where(box, images.roll(1, 0), images), 1 - tall * wide / (height * width)


def _within(middle: Tensor, area: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Which of `side` pixels lie in a box along one axis [B, side], and how many do [B]; rounded as by torchvision."""
    centre, half = (middle * side).floor(), (0.5 * area.sqrt() * side).floor()
    low, high = (centre - half).clamp(min=0), (centre + half).clamp(max=side)
    pixel = torch.arange(side, device=middle.device)
    return (pixel >= low[:, None]) & (pixel < high[:, None]), high - low


def draw_beta(alpha: float, count: int, generator: torch.Generator) -> Tensor:
    """Draws from Beta(alpha, alpha) [count]: the first of two numbers of a Dirichlet distribution."""
    return torch._sample_dirichlet(torch.full((count, 2), alpha, device=generator.device), generator)[:, 0]
