"""A small network for the proposals of R-CNN: convolutions, a hidden layer, and one logit per class.

Girshick et al. 2014 fine-tune AlexNet (five convolutions, two hidden layers); this one is trained from scratch.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ..errors import Refusal
from ..layers.backbone import Backbone
from ..recipes.ranges import Count, Counts, Fraction


class ProposalCNN(nn.Module):
    """Map pictures [B, channels, *size] to logits [B, classes]; each of `widths` halves the sides.

    `body` returns the flattened last map [B, P], from which boxes are regressed; `hidden` turns it into the features
    [B, features] that are classified. backbone: a classifier whose body replaces the convolutions of `widths`.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        classes: int,
        widths: Counts = [16, 32, 64],  # noqa: B006  (never written to)
        features: Count = 128,
        dropout: Fraction = 0.0,
        backbone: Callable[..., nn.Module] | None = None,
    ) -> None:
        super().__init__()
        if backbone is None:
            self.body, cells = self._convolutions(channels, size, widths)
        else:
            maps = Backbone(backbone, channels, size)
            self.body, cells = nn.Sequential(maps, nn.Flatten()), maps.width * maps.grid[0] * maps.grid[1]
        self.hidden = nn.Sequential(nn.Linear(cells, features), nn.ReLU(inplace=True))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(features, classes)

    @property
    def backbone(self) -> nn.Module:
        """Return what starts from other weights: the part in place of the convolutions, or all of it."""
        return self.body[0] if isinstance(self.body[0], Backbone) else self

    def _convolutions(self, channels: int, size: tuple[int, int], widths: list[int]) -> tuple[nn.Sequential, int]:
        """Return the convolutions, and the number of values that they make of a picture."""
        if not min(size) >> len(widths):
            raise Refusal(
                f"task.side: {min(size)} cannot be halved {len(widths)} times; set it to at least {1 << len(widths)}"
            )
        body = nn.Sequential()
        for fan_in, width in zip([channels, *widths], widths, strict=False):
            body += nn.Sequential(
                nn.Conv2d(fan_in, width, kernel_size=3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            )
        body.append(nn.Flatten())
        return body, widths[-1] * (size[0] >> len(widths)) * (size[1] >> len(widths))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, classes] of pictures [B, channels, *size]."""
        return self.head(self.dropout(self.hidden(self.body(x))))
