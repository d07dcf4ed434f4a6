"""LeNet-5 by the notes: two sigmoid convolutions, each with pooling, then 120-84-K (LeCun et al. 1998).

61,706 parameters for 1x28x28 and 10 classes. Other input sizes change the first linear layer alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from ..errors import Refusal

SMALLEST = 12  # pixels a side: what leaves one for the last pooling


class LeNet(nn.Module):
    """Images [B, channels, *size] -> logits [B, classes]; sides of at least 12.

    norm: a layer before each activation, such as layers.batch_norm.BatchNorm (notes: batch normalisation). pool: what
    is kept of each 2x2 places, their mean or the greatest.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        classes: int,
        norm: Callable[..., nn.Module] | None = None,
        pool: Literal["average", "max"] = "average",
    ) -> None:
        super().__init__()
        if min(size) < SMALLEST:
            raise Refusal(f"task.model: LeNet needs sides of at least {SMALLEST}, not {size}; set task.resize")
        pooled = nn.AvgPool2d if pool == "average" else nn.MaxPool2d
        height, width = ((side // 2 - 4) // 2 for side in size)

        def activated(features: int) -> list[nn.Module]:
            return [*([norm(features)] if norm else []), nn.Sigmoid()]

        self.body = nn.Sequential(
            nn.Conv2d(channels, 6, kernel_size=5, padding=2),
            *activated(6),
            pooled(2),
            nn.Conv2d(6, 16, kernel_size=5),
            *activated(16),
            pooled(2),
            nn.Flatten(),
            nn.Linear(16 * height * width, 120),
            *activated(120),
            nn.Linear(120, 84),
            *activated(84),
        )
        self.head = nn.Linear(84, classes)
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)  # sigmoids saturate under torch's default

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))
