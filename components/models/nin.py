"""Network in Network: a dense network at every pixel, and no dense layer at the end (Lin et al. 2014; notes: NiN).

For one channel and 10 classes it has 1,992,166 parameters, whatever the size of the images.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import Refusal
from ..layers.initial import scale_widths
from ..recipes.ranges import Fraction, Positive

SMALLEST = 67  # pixels per side, of which one is left after the last pooling


class NiN(nn.Module):
    """Map images [B, channels, *size], with sides of at least 67, to logits [B, classes].

    The output layer is a block with one channel per class, averaged over all positions. Like every block it ends with
    a ReLU, so that no logit is below 0. width: factor of the numbers of channels of the other blocks.
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
        # A class whose last ReLU is 0 everywhere would never learn.
        nn.init.ones_(output[-2].bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, classes] of images [B, channels, *size]."""
        return self.head(self.body(x)).mean((2, 3))


def _block(fan_in: int, fan_out: int, kernel: int, stride: int, padding: int) -> list[nn.Module]:
    """Return a convolution and two of 1x1, each with a ReLU: [B, fan_in, H, W] -> [B, fan_out, H', W']."""
    return [
        nn.Conv2d(fan_in, fan_out, kernel, stride, padding),
        nn.ReLU(inplace=True),
        nn.Conv2d(fan_out, fan_out, kernel_size=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(fan_out, fan_out, kernel_size=1),
        nn.ReLU(inplace=True),
    ]
