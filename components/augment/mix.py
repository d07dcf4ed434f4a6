"""Mix pairs of pictures and their labels: mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019).

Each picture is mixed with the one before it in the shuffled batch (the first with the last), by its own share. The
transforms take pictures [B, C, H, W] and return them with the share [B] of each, which is the weight of its own label.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..recipes.ranges import Positive


class MixUp:
    """A weighted mean of two pictures: share * own + (1 - share) * previous, the share from Beta(alpha, alpha)."""

    def __init__(self, alpha: Positive = 0.2) -> None:
        self.alpha = alpha

    def __call__(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        share = draw_beta(self.alpha, len(images), generator)
        return mix_pairs(images, share), share


class CutMix:
    """A box that is replaced by the same box of the previous picture.

    Its area is a share 1 - Beta(alpha, alpha) of the picture, and its centre is uniform in the picture. Parts outside
    the picture are cut off, which raises the share of the own label.
    """

    def __init__(self, alpha: Positive = 1.0) -> None:
        self.alpha = alpha

    def __call__(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        area = 1 - draw_beta(self.alpha, len(images), generator)
        centre = torch.rand(2, len(images), generator=generator, device=generator.device)
        return paste_boxes(images, area, centre[0], centre[1])


def mix_pairs(images: Tensor, share: Tensor) -> Tensor:
    """Return share [B] * own + (1 - share) * previous for images [B, C, H, W]."""
    return torch.lerp(images.roll(1, 0), images, share.view(-1, 1, 1, 1))


def paste_boxes(images: Tensor, area: Tensor, down: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Replace one box of each picture by that of the previous one; return (pictures, remaining share [B]).

    area [B]: share of the picture that the box covers. down, right [B]: its centre in 0..1 of height and width.
    """
    height, width = images.shape[2:]
    rows, tall = _cover(down, area, height)
    columns, wide = _cover(right, area, width)
    box = rows[:, None, :, None] & columns[:, None, None, :]
    return torch.where(box, images.roll(1, 0), images), 1 - tall * wide / (height * width)


def _cover(centre: Tensor, area: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Return which of `side` pixels a box covers along one axis [B, side], and how many [B], as torchvision rounds."""
    middle = (centre * side).floor()
    half = (0.5 * area.sqrt() * side).floor()
    low, high = (middle - half).clamp(min=0), (middle + half).clamp(max=side)
    pixel = torch.arange(side, device=centre.device)
    return (pixel >= low[:, None]) & (pixel < high[:, None]), high - low


def draw_beta(alpha: float, count: int, generator: torch.Generator) -> Tensor:
    """Draw from Beta(alpha, alpha): float32 [count], the first of two components of a Dirichlet distribution."""
    return torch._sample_dirichlet(torch.full((count, 2), alpha, device=generator.device), generator)[:, 0]
