"""Faster R-CNN: Fast R-CNN whose regions come from a network that shares its maps (notes; Ren et al. 2015)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ..layers.backbone import Backbone
from ..layers.region_head import RegionHead
from ..layers.region_proposals import RegionProposals
from ..layers.regions import pool_regions
from ..recipes.ranges import Count, Positive
from .feature_net import FeatureNet


class FasterRCNN(nn.Module):
    """Map pictures [B, channels, *size] to maps, these to proposed regions, and regions to classes and boxes.

    sizes, ratios: of the anchors (layers/region_proposals.py). The other arguments are those of `FastRCNN`.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        classes: int,
        backbone: Callable[..., nn.Module] = FeatureNet,
        sizes: list[Positive] = [0.2, 0.3, 0.45],  # noqa: B006  (never written to)
        ratios: list[Positive] = [1.0, 0.5, 2.0],  # noqa: B006
        side: Count = 5,
        hidden: Count = 128,
    ) -> None:
        super().__init__()
        self.side = side
        self.backbone = Backbone(backbone, channels, size)
        self.proposals = RegionProposals(self.backbone.width, self.backbone.grid, size, sizes, ratios)
        self.head = RegionHead(self.backbone.width, side, classes, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps [B, C, *grid] of pictures [B, channels, *size]."""
        return self.backbone(x)

    def classify(self, maps: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits [B, R, K + 1] and offsets [B, R, K, 4] of regions [B, R, 4] in pixels."""
        return self.head(pool_regions(maps, regions, 1 / self.backbone.stride, self.side))
