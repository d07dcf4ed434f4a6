"""AlexNet: a deeper LeNet with ReLU, max pooling and dropout (Krizhevsky et al. 2012; notes: AlexNet).

As in the notes it is one network, not two halves for two GPUs, and has no local response normalisation. For one
channel, 224x224 pixels and 10 classes it has 46,764,746 parameters, and 6,400 features before the dense layers.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import Refusal
from ..layers.initial import init_for_relu, scale_widths
from ..recipes.ranges import Count, Fraction, Positive

SMALLEST = 65  # pixels per side, of which the last pooling gets the 3 it needs


class AlexNet(nn.Module):
    """Map images [B, channels, *size], with sides of at least 65, to logits [B, classes].

    width: factor of the numbers of channels and hidden units. hidden: units of both dense layers, before that factor.
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
        map_height, map_width = (_last_map_side(side) for side in size)
        self.dense = nn.Sequential(
            nn.Linear(b * map_height * map_width, dense),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(dense, dense),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
        )
        self.head = nn.Linear(dense, classes)
        init_for_relu(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, classes] of images [B, channels, *size]."""
        return self.head(self.dense(self.body(x)))


def _last_map_side(side: int) -> int:
    """Return the side of the last map, after a convolution of stride 4 and three 3x3 poolings of stride 2."""
    side = (side + 2 - 11) // 4 + 1
    for _ in range(3):
        side = (side - 3) // 2 + 1
    return side
