"""YOLO: a grid of cells, each of which predicts a few boxes and one class (notes; Redmon et al. 2016, version 1).

Differences from the paper: the last layer is a 1x1 convolution instead of two dense layers, and all outputs pass
through a sigmoid (the classes through a softmax), so that they have the range of their targets.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ..layers.backbone import Backbone
from ..layers.boxes import clip_boxes
from ..layers.convolution_block import convolution_block
from ..layers.grid import GridOutput
from ..recipes.ranges import Count
from .feature_net import FeatureNet


class YOLO(nn.Module):
    """Map pictures [B, channels, *size] to a GridOutput of `cells` x `cells` cells with `boxes` boxes each.

    backbone: a classifier whose body gives a map, which is averaged over the cells where it is finer. width: channels
    of the block of two convolutions on it.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        classes: int,
        backbone: Callable[..., nn.Module] = FeatureNet,
        cells: Count = 8,
        boxes: Count = 2,
        width: Count = 64,
    ) -> None:
        super().__init__()
        self.size = size
        self.classes = classes
        self.cells = cells
        self.boxes = boxes
        self.backbone = Backbone(backbone, channels, size)
        self.pool = nn.AdaptiveAvgPool2d(cells)
        self.block = convolution_block(self.backbone.width, width, halve=False)
        self.head = nn.Conv2d(width, boxes * 5 + classes, kernel_size=1)

    def forward(self, x: Tensor) -> GridOutput:
        """Return boxes [B, S * S, P, 4], confidences [B, S * S, P] and class logits [B, S * S, K]."""
        rows = self.head(self.block(self.pool(self.backbone(x)))).permute(0, 2, 3, 1).flatten(1, 2).float()
        outputs = rows[..., : self.boxes * 5].unflatten(2, (self.boxes, 5)).sigmoid()
        return GridOutput(outputs[..., :4], outputs[..., 4], rows[..., self.boxes * 5 :], self.cells, self.size)

    def decode(self, output: GridOutput) -> tuple[Tensor, Tensor]:
        """Return boxes [B, N, 4] in pixels, clipped to the picture, and scores [B, N, K]: confidence times class."""
        boxes = clip_boxes(output.corners().flatten(1, 2), *self.size)
        scores = output.confidence[..., None] * output.logits.softmax(2)[:, :, None]
        return boxes, scores.flatten(1, 2)
