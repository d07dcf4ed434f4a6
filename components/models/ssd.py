"""SSD: anchors of several sizes on maps of several scales, classified and moved at once (notes; Liu et al. 2016)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..errors import Refusal
from ..layers.anchors import AnchorOutput, anchor_shapes, grid_anchors
from ..layers.backbone import Backbone
from ..layers.boxes import clip_boxes, decode_offsets
from ..layers.convolution_block import convolution_block
from ..recipes.ranges import Count, Positive
from .feature_net import FeatureNet

BACKGROUND_SHARE = 0.99  # of the initial probability, because almost all anchors show the background


class SSD(nn.Module):
    """Map pictures [B, channels, *size] to an AnchorOutput.

    backbone: a classifier whose body gives the first map. sizes: sides of the anchors at each scale, as shares of the
    picture's shorter side; each scale after the first halves the map by a block of `width` channels. ratios: of the
    anchors' width to their height. A scale with n sizes has n + m - 1 anchors per position (layers/anchors.py).
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        classes: int,
        backbone: Callable[..., nn.Module] = FeatureNet,
        width: Count = 64,
        sizes: list[list[Positive]] = [[0.15, 0.2], [0.3, 0.4], [0.5, 0.65]],  # noqa: B006  (never written to)
        ratios: list[Positive] = [1.0, 0.5, 2.0],  # noqa: B006
    ) -> None:
        super().__init__()
        if not sizes:
            raise Refusal("model.sizes: is empty, but an SSD needs at least one scale; give a list of sides")
        self.size = size
        self.classes = classes
        self.backbone = Backbone(backbone, channels, size)
        if not min(self.backbone.grid) >> (len(sizes) - 1):
            raise Refusal(
                f"model.sizes: a map of {self.backbone.grid} cells cannot be halved {len(sizes) - 1} times; give at"
                f" most {min(self.backbone.grid).bit_length()} lists"
            )
        self.scales = nn.ModuleList()
        self.head = nn.ModuleList()
        anchors = []
        grid, fan_in = self.backbone.grid, self.backbone.width
        for index, sides in enumerate(sizes):
            if index:
                self.scales.append(convolution_block(fan_in, width))
                grid, fan_in = (grid[0] // 2, grid[1] // 2), width
            shapes = anchor_shapes([share * min(size) for share in sides], ratios)
            anchors.append(grid_anchors(grid, size, shapes))
            self.head.append(nn.Conv2d(fan_in, len(shapes) * (classes + 1 + 4), kernel_size=3, padding=1))
        self.anchors = torch.cat(anchors)
        self._start_from_background()

    @torch.no_grad()
    def _start_from_background(self) -> None:
        """Initialise the heads: small weights, and a bias that gives the background BACKGROUND_SHARE."""
        odds = BACKGROUND_SHARE / (1 - BACKGROUND_SHARE) * self.classes
        for layer in cast(Iterable[Any], self.head):
            nn.init.normal_(layer.weight, std=0.01)
            layer.bias.zero_()
            layer.bias.view(-1, self.classes + 5)[:, self.classes] = torch.tensor(odds).log()

    def forward(self, x: Tensor) -> AnchorOutput:
        """Return logits [B, N, K + 1] and offsets [B, N, 4] for the N anchors of all scales."""
        maps = self.backbone(x)
        rows = []
        for index, layer in enumerate(self.head):
            if index:
                maps = self.scales[index - 1](maps)
            rows.append(layer(maps).permute(0, 2, 3, 1).reshape(len(x), -1, self.classes + 5))
        logits, offsets = torch.cat(rows, 1).float().split([self.classes + 1, 4], dim=2)
        return AnchorOutput(logits, offsets, self.anchors.to(x.device))

    def decode(self, output: AnchorOutput) -> tuple[Tensor, Tensor]:
        """Return boxes [B, N, 4] in pixels, clipped to the picture, and scores [B, N, K] from 0 to 1."""
        boxes = decode_offsets(output.offsets, output.anchors)
        return clip_boxes(boxes, *self.size), output.logits.softmax(2)[..., :-1]
