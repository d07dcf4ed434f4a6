"""Mask R-CNN: Faster R-CNN with RoI align and a mask per region (notes; He et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ..layers.backbone import Backbone
from ..layers.region_head import RegionHead
from ..layers.region_proposals import RegionProposals
from ..layers.regions import align_regions
from ..recipes.ranges import Count, Positive
from .feature_net import FeatureNet


class MaskRCNN(nn.Module):
    """Map pictures [B, channels, *size] to maps, these to proposed regions, and regions to classes, boxes and masks.

    mask_side: of the squares that regions are aligned to before the fully convolutional mask head of `width` channels,
    whose transposed convolution doubles them. The other arguments are those of `FasterRCNN`.
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
        mask_side: Count = 7,
        width: Count = 64,
    ) -> None:
        super().__init__()
        self.side = side
        self.mask_side = mask_side
        self.backbone = Backbone(backbone, channels, size)
        self.proposals = RegionProposals(self.backbone.width, self.backbone.grid, size, sizes, ratios)
        self.head = RegionHead(self.backbone.width, side, classes, hidden)
        self.masks = nn.Sequential(
            nn.Conv2d(self.backbone.width, width, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(width, width, kernel_size=2, stride=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, classes, kernel_size=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return maps [B, C, *grid] of pictures [B, channels, *size]."""
        return self.backbone(x)

    def classify(self, maps: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits [B, R, K + 1] and offsets [B, R, K, 4] of regions [B, R, 4] in pixels."""
        return self.head(align_regions(maps, regions, 1 / self.backbone.stride, self.side))

    def segment(self, maps: Tensor, regions: Tensor, labels: Tensor) -> Tensor:
        """Return the logits [B, R, S, S] of the masks of regions [B, R, 4] for their classes [B, R]; S: 2 * mask_side.

        A class below 0 stands for class 0.
        """
        aligned = align_regions(maps, regions, 1 / self.backbone.stride, self.mask_side)
        logits = self.masks(aligned.flatten(0, 1)).unflatten(0, regions.shape[:2])  # [B, R, K, S, S]
        index = labels.clamp(min=0)[..., None, None, None].expand(-1, -1, 1, *logits.shape[3:])
        return logits.gather(2, index)[:, :, 0].float()
