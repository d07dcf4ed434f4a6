"""Propose regions that may show an object, of whatever class (notes: Faster R-CNN; Ren et al. 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .anchors import anchor_shapes, grid_anchors
from .boxes import clip_boxes, decode_offsets, unsuppressed
from .sampling import compact

SMALLEST = 1.0  # pixels that each side of a proposed region must have


class RegionProposals(nn.Module):
    """Score and move the anchors around every position of maps [B, channels, *grid].

    size: height and width of the picture. sizes: sides of the anchors as shares of the picture's shorter side. ratios:
    of their widths to their heights (layers/anchors.py).
    """

    def __init__(
        self,
        channels: int,
        grid: tuple[int, int],
        size: tuple[int, int],
        sizes: Sequence[float],
        ratios: Sequence[float],
    ) -> None:
        super().__init__()
        self.size = size
        shapes = anchor_shapes([share * min(size) for share in sizes], ratios)
        self.anchors = grid_anchors(grid, size, shapes)  # [N, 4]
        self.convolution = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.objectness = nn.Conv2d(channels, len(shapes), kernel_size=1)
        self.offsets = nn.Conv2d(channels, len(shapes) * 4, kernel_size=1)
        for layer in (self.objectness, self.offsets):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(cast(Tensor, layer.bias))

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits [B, N] of the anchors to show an object, and offsets [B, N, 4] to its box."""
        x = F.relu(self.convolution(maps))
        logits = self.objectness(x).permute(0, 2, 3, 1).flatten(1)
        offsets = self.offsets(x).permute(0, 2, 3, 1).reshape(len(x), -1, 4)
        return logits.float(), offsets.float()

    @torch.no_grad()
    def select(
        self, logits: Tensor, offsets: Tensor, candidates: int, suppress: float, most: int
    ) -> tuple[Tensor, Tensor]:
        """Return up to `most` regions [B, R, 4] per picture, best first, and which of them are real: bool [B, R].

        The `candidates` best anchors take part. Of two regions with an IoU above `suppress`, the weaker is dropped.
        """
        best = logits.argsort(dim=1, descending=True, stable=True)[:, :candidates]
        moved = decode_offsets(offsets.gather(1, _four(best)), self.anchors.to(best.device)[best])
        regions = clip_boxes(moved, *self.size)
        is_large = (regions[..., 2:] - regions[..., :2]).amin(-1) >= SMALLEST
        remaining = unsuppressed(regions, suppress) & is_large
        places = compact(remaining, most)
        return regions.gather(1, _four(places)), remaining.gather(1, places)


def _four(rows: Tensor) -> Tensor:
    """Return rows [B, N] as an index of their boxes: [B, N, 4]."""
    return rows[..., None].expand(-1, -1, 4)
