"""GoogLeNet by the notes: nine Inception blocks of four paths, global average pooling (Szegedy et al. 2015).

Without the paper's two auxiliary outputs. For one channel and 10 classes: 5,977,530 parameters, whatever the size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..layers.initial import init_for_relu, scale_widths
from ..recipes.ranges import Positive

# Of each block: 1x1; 1x1 and 3x3; 1x1 and 5x5; 1x1 after pooling. Stages halve the picture between them.
STAGES = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)


class Inception(nn.Module):
    """Four paths side by side: [B, C_in, H, W] -> [B, one + three[1] + five[1] + pool, H, W]."""

    def __init__(self, channels: int, one: int, three: tuple[int, int], five: tuple[int, int], pool: int) -> None:
        super().__init__()
        self.paths = nn.ModuleList(
            [
                _rectified(channels, one),
                nn.Sequential(_rectified(channels, three[0]), _rectified(*three, kernel=3)),
                nn.Sequential(_rectified(channels, five[0]), _rectified(*five, kernel=5)),
                nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), _rectified(channels, pool)),
            ]
        )
        self.channels = one + three[1] + five[1] + pool

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([path(x) for path in self.paths], 1)


class GoogLeNet(nn.Module):
    """Images [B, channels, H, W] -> logits [B, classes]. width: what all channels are multiplied by."""

    def __init__(self, channels: int, size: tuple[int, int], classes: int, width: Positive = 1.0) -> None:
        super().__init__()
        a, b = scale_widths([64, 192], width)
        self.stem = nn.Sequential(
            nn.Conv2d(channels, a, kernel_size=7, stride=2, padding=3),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
            _rectified(a, a),
            _rectified(a, b, kernel=3),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.body, features = nn.Sequential(), b
        for stage in STAGES:
            if len(self.body):
                self.body.append(nn.MaxPool2d(3, stride=2, padding=1))
            for block in stage:
                one, three, three_, five, five_, pool = scale_widths(list(block), width)
                inception = Inception(features, one, (three, three_), (five, five_), pool)
                self.body.append(inception)
                features = inception.channels
        self.head = nn.Linear(features, classes)
        init_for_relu(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)).mean((2, 3)))


def _rectified(fan_in: int, fan_out: int, kernel: int = 1) -> nn.Sequential:
    """A convolution that keeps the size, rectified."""
    return nn.Sequential(nn.Conv2d(fan_in, fan_out, kernel, padding=kernel // 2), nn.ReLU(inplace=True))
