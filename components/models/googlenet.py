"""GoogLeNet: nine Inception blocks of four paths, and global average pooling (Szegedy et al. 2015; notes: GoogLeNet).

As in the notes it lacks the two auxiliary outputs of the paper. For one channel and 10 classes it has 5,977,530
parameters, whatever the size of the images.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..layers.initial import init_for_relu, scale_widths
from ..recipes.ranges import Positive

# Channels of the convolutions in each block: 1x1; 1x1 and 3x3; 1x1 and 5x5; 1x1 after pooling. A max pooling between
# two stages halves the sides.
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
    """Four parallel paths, whose maps are concatenated.

    Maps [B, channels, H, W] to [B, conv1 + conv3[1] + conv5[1] + pool, H, W]. conv1, conv3, conv5, pool: channels of
    the 1x1 convolution, of the pairs that end in 3x3 and 5x5, and of the 1x1 convolution after pooling.
    """

    def __init__(self, channels: int, conv1: int, conv3: tuple[int, int], conv5: tuple[int, int], pool: int) -> None:
        super().__init__()
        self.paths = nn.ModuleList(
            [
                _rectified(channels, conv1),
                nn.Sequential(_rectified(channels, conv3[0]), _rectified(*conv3, kernel=3)),
                nn.Sequential(_rectified(channels, conv5[0]), _rectified(*conv5, kernel=5)),
                nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), _rectified(channels, pool)),
            ]
        )
        self.channels = conv1 + conv3[1] + conv5[1] + pool

    def forward(self, x: Tensor) -> Tensor:
        """Return the maps of all paths [B, self.channels, H, W] of x [B, channels, H, W]."""
        return torch.cat([path(x) for path in self.paths], 1)


class GoogLeNet(nn.Module):
    """Map images [B, channels, H, W] to logits [B, classes]. width: factor of the numbers of channels."""

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
        self.body = nn.Sequential()
        features = b
        for stage in STAGES:
            if len(self.body):
                self.body.append(nn.MaxPool2d(3, stride=2, padding=1))
            for block in stage:
                widths = scale_widths(list(block), width)
                inception = Inception(features, widths[0], (widths[1], widths[2]), (widths[3], widths[4]), widths[5])
                self.body.append(inception)
                features = inception.channels
        self.head = nn.Linear(features, classes)
        init_for_relu(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, classes] of images [B, channels, H, W]."""
        return self.head(self.body(self.stem(x)).mean((2, 3)))


def _rectified(fan_in: int, fan_out: int, kernel: int = 1) -> nn.Sequential:
    """Return a convolution that keeps the size of its map, and a ReLU."""
    return nn.Sequential(nn.Conv2d(fan_in, fan_out, kernel, padding=kernel // 2), nn.ReLU(inplace=True))
