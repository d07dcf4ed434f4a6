"""AlexNet by the notes: a deeper LeNet with rectified units, max pooling and dropout (Krizhevsky et al. 2012).

In one piece, not in two halves for two small GPUs, and without local response normalisation. For one channel, 224x224
and 10 classes: 46,764,746 parameters, 6,400 features before the dense layers.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import Refusal
from ..layers.initial import init_for_relu, scale_widths
from ..recipes.ranges import Count, Fraction, Positive

SMALLEST = 65  # pixels a side: what leaves the last pooling its 3


class AlexNet(nn.Module):
    """Images [B, channels, *size] -> logits [B, classes]; sides of at least 65.

    width: what all channels and hidden units are multiplied by; hidden: units of both dense layers before that.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        classes: int,
        width: Positive = 1.0,
        hidden: Count = 4096,
        dropout: Fraction = 0.5,
    ) -> None:
        super().__init__()
        if min(size) < SMALLEST:
            raise Refusal(f"task.model: AlexNet needs sides of at least {SMALLEST}, not {size}; set task.resize")
        a, b, c, dense = scale_widths([96, 256, 384, hidden], width)
        self.body = nn.Sequential(
            nn.Conv2d(channels, a, kernel_size=11, stride=4, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(a, b, kernel_size=5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(b, c, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(c, c, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(c, b, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Flatten(),
        )
        height, width_ = (_after_pooling(side) for side in size)
        self.dense = nn.Sequential(
            nn.Linear(b * height * width_, dense),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(dense, dense),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
        )
        self.head = nn.Linear(dense, classes)
        init_for_relu(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dense(self.body(x)))


def _after_pooling(side: int) -> int:
    """The side of the last map: a convolution by fours, then three poolings of 3 by twos."""
    side = (side + 2 - 11) // 4 + 1
    for _ in range(3):
        side = (side - 3) // 2 + 1
    return side
