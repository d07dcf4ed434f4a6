"""Fast R-CNN: one pass over the whole picture, RoI pooling, and a head per region (notes; Girshick 2015)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ..layers.backbone import Backbone
from ..layers.region_head import RegionHead
from ..layers.regions import pool_regions
from ..recipes.ranges import Count
from .feature_net import FeatureNet


class FastRCNN(nn.Module):
    """Map pictures [B, channels, *size] to maps, and regions of these to classes and boxes.

    The regions come with the data, such as those of selective search. backbone: a classifier whose body gives the maps.
    side: of the squares that RoI pooling makes of regions. hidden: units of the dense layer on them.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        classes: int,
        backbone: Callable[..., nn.Module] = FeatureNet,
        side: Count = 5,
        hidden: Count = 128,
    ) -> None:
        super().__init__()
        self.side = side
        self.backbone = Backbone(backbone, channels, size)
        self.head = RegionHead(self.backbone.width, side, classes, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps [B, C, *grid] of pictures [B, channels, *size]."""
        return self.backbone(x)

    def classify(self, maps: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits [B, R, K + 1] and offsets [B, R, K, 4] of regions [B, R, 4] in pixels."""
        return self.head(pool_regions(maps, regions, 1 / self.backbone.stride, self.side))
