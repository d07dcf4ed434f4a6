"""The network of R-CNN in small: convolutions, then a hidden layer, then one logit a class.

Girshick et al. 2014 fine-tune AlexNet (five convolutions, two hidden layers); this one learns from nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..errors import Refusal
from ..recipes.ranges import Count, Fraction


class ProposalCNN(nn.Module):
    """Squares [B, channels, size, size] -> logits [B, classes]; `size` is halved once a width.

    `body` gives the last convolution's map [B, P], which boxes are regressed from; `hidden` the features [B, D] of a
    map, which are classified.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        classes: int,
        widths: Sequence[Count] = (16, 32, 64),
        features: Count = 128,
        dropout: Fraction = 0.0,
    ) -> None:
        super().__init__()
        if not min(size) >> len(widths):
            raise Refusal(
                f"task.side: {min(size)} is halved away by {len(widths)} widths; give at least {1 << len(widths)}"
            )
        self.body = nn.Sequential()
        for fan_in, width in zip([channels, *widths], widths, strict=False):
            self.body += nn.Sequential(
                nn.Conv2d(fan_in, width, kernel_size=3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            )
        self.body.append(nn.Flatten())
        cells = (size[0] >> len(widths)) * (size[1] >> len(widths))
        self.hidden = nn.Sequential(nn.Linear(widths[-1] * cells, features), nn.ReLU(inplace=True))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self.hidden(self.body(x))))
