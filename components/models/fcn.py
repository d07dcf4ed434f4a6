"""FCN: a fully convolutional network for segmentation (Long et al. 2015; notes: semantic segmentation).

A backbone, a 1x1 convolution to the classes, and transposed convolutions that start as bilinear interpolation.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import Refusal
from ..layers.transposed import bilinear_upsampling
from ..recipes.ranges import Natural
from .resnet import ResNet


class FCN(nn.Module):
    """Map images [B, channels, H, W] to logits [B, classes, H, W], for any H and W.

    backbone: factory of a ResNet, whose last stage gives the features. skips: number of earlier stages whose own 1x1
    convolutions add detail on the way up (0: one transposed convolution to the full size, as in the notes; 1 and 2 are
    FCN-16s and FCN-8s of the paper, where a ResNet-18 has five halvings). The new 1x1 convolutions start at 0, the last
    one at random.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        classes: int,
        backbone: Callable[..., ResNet] = ResNet,
        skips: Natural = 0,
    ) -> None:
        super().__init__()
        self.backbone = backbone(channels=channels, size=size, classes=classes)
        del self.backbone.head
        stages = self.backbone.stages
        if skips >= stages:
            raise Refusal(
                f"model.skips: {skips} of {stages} stages; the last one is no skip, so give at most {stages - 1}"
            )
        with torch.no_grad():
            maps = self._stage_maps(torch.zeros(2, channels, 64, 64))
        strides = [64 // features.shape[2] for features in maps]
        self.stride = strides[-1]
        self.head = nn.Conv2d(maps[-1].shape[1], classes, kernel_size=1)
        self.details, self.upsampling = nn.ModuleList(), nn.ModuleList()
        for features, stride in list(zip(maps[:-1], strides[:-1], strict=True))[::-1][:skips]:
            detail = nn.Conv2d(features.shape[1], classes, kernel_size=1)
            nn.init.zeros_(detail.weight)
            self.details.append(detail)
            self.upsampling.append(bilinear_upsampling(classes, strides.pop() // stride))
        self.upsampling.append(bilinear_upsampling(classes, strides.pop()))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of every pixel."""
        height, width = x.shape[2:]
        maps = self._stage_maps(F.pad(x, (0, -width % self.stride, 0, -height % self.stride)))
        logits = self.head(maps.pop())
        for detail, upsampling in zip(self.details, self.upsampling, strict=False):
            logits = upsampling(logits) + detail(maps.pop())
        return self.upsampling[-1](logits)[:, :, :height, :width]

    def _stage_maps(self, x: Tensor) -> list[Tensor]:
        """Return the features of every stage of the backbone."""
        maps = []
        x = self.backbone.stem(x)
        for number, block in enumerate(self.backbone.body, 1):
            x = block(x)
            if number % self.backbone.blocks == 0:
                maps.append(x)
        return maps
