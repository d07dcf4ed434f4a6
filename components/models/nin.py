"""Network in Network by the notes: a dense network at every pixel, and no dense layer at the end (Lin et al. 2014).

For one channel and 10 classes: 1,992,166 parameters, whatever the size.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import Refusal
from ..layers.initial import scale_widths
from ..recipes.ranges import Fraction, Positive

SMALLEST = 67  # pixels a side: what leaves one for the last pooling


class NiN(nn.Module):
    """Images [B, channels, *size] -> logits [B, classes]; sides of at least 67.

    The output layer is a block with one channel a class, averaged over all places. Like every block it ends rectified,
    so that no logit is below 0. width: what the channels of the others are multiplied by.
    """

    def __init__(
        self, channels: int, size: tuple[int, int], classes: int, width: Positive = 1.0, dropout: Fraction = 0.5
    ) -> None:
        super().__init__()
        if min(size) < SMALLEST:
            raise Refusal(f"task.model: NiN needs sides of at least {SMALLEST}, not {size}; set task.resize")
        a, b, c = scale_widths([96, 256, 384], width)
        self.body = nn.Sequential(
            *_block(channels, a, kernel=11, stride=4, padding=0),
            nn.MaxPool2d(3, stride=2),
            *_block(a, b, kernel=5, stride=1, padding=2),
            nn.MaxPool2d(3, stride=2),
            *_block(b, c, kernel=3, stride=1, padding=1),
            nn.MaxPool2d(3, stride=2),
            nn.Dropout(dropout),
        )
        output = _block(c, classes, kernel=3, stride=1, padding=1)
        self.head = nn.Sequential(*output)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)
        nn.init.ones_(output[-2].bias)  # type: ignore[arg-type]  # a class that is off everywhere would never learn

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x)).mean((2, 3))


def _block(fan_in: int, fan_out: int, kernel: int, stride: int, padding: int) -> list[nn.Module]:
    """A convolution, then two of 1x1: [B, fan_in, H, W] -> [B, fan_out, H', W']."""
    return [
        nn.Conv2d(fan_in, fan_out, kernel, stride, padding),
        nn.ReLU(inplace=True),
        nn.Conv2d(fan_out, fan_out, kernel_size=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(fan_out, fan_out, kernel_size=1),
        nn.ReLU(inplace=True),
    ]
