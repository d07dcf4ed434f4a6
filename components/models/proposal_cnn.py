"""A small network for the proposals of R-CNN: convolutions, a hidden layer, and one logit per class.

Girshick et al. 2014 fine-tune AlexNet (five convolutions, two hidden layers); this one is trained from scratch.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..errors import Refusal
from ..recipes.ranges import Count, Fraction


class ProposalCNN(nn.Module):
    """Map pictures [B, channels, *size] to logits [B, classes]; each of `widths` halves the sides.

    `body` returns the flattened last map [B, P], from which boxes are regressed; `hidden` turns it into the features
    [B, features] that are classified.
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
                f"task.side: {min(size)} cannot be halved {len(widths)} times; set it to at least {1 << len(widths)}"
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
        """Return logits [B, classes] of pictures [B, channels, *size]."""
        return self.head(self.dropout(self.hidden(self.body(x))))
