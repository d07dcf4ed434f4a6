"""LeNet-5: two convolutions with sigmoid and pooling, then three dense layers (LeCun et al. 1998; notes: LeNet).

It has 61,706 parameters for images of 1x28x28 and 10 classes. The size of images affects only the first dense layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from ..errors import Refusal

SMALLEST = 12  # pixels per side, of which one is left after the last pooling


class LeNet(nn.Module):
    """Map images [B, channels, *size], with sides of at least 12, to logits [B, classes].

    norm: makes a layer that precedes each activation from its number of features, such as
    layers.batch_norm.BatchNorm (notes: batch normalisation). pool: the pooling of 2x2 positions.
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
        pooling = nn.AvgPool2d if pool == "average" else nn.MaxPool2d
        height, width = ((side // 2 - 4) // 2 for side in size)

        def activation(features: int) -> list[nn.Module]:
            """Return the layers behind a convolution or dense layer."""
            return [norm(features), nn.Sigmoid()] if norm else [nn.Sigmoid()]

        self.body = nn.Sequential(
            nn.Conv2d(channels, 6, kernel_size=5, padding=2),
            *activation(6),
            pooling(2),
            nn.Conv2d(6, 16, kernel_size=5),
            *activation(16),
            pooling(2),
            nn.Flatten(),
            nn.Linear(16 * height * width, 120),
            *activation(120),
            nn.Linear(120, 84),
            *activation(84),
        )
        self.head = nn.Linear(84, classes)
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                # With torch's default, the sigmoids saturate.
                nn.init.xavier_uniform_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, classes] of images [B, channels, *size]."""
        return self.head(self.body(x))
