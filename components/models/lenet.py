"""LeNet-5 by the notes: two sigmoid convolutions with average pooling, then 120-84-K (LeCun et al. 1998).

61,706 parameters for 1x28x28 and 10 classes. Other input sizes change the first linear layer alone.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


class LeNet(nn.Module):
    """Images [B, channels, *size] -> logits [B, classes]; sides of at least 14.

    norm: a layer before each activation, such as layers.batch_norm.BatchNorm (notes: batch normalisation).
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        classes: int,
        norm: Callable[..., nn.Module] | None = None,
    ) -> None:
        super().__init__()
        height, width = ((side // 2 - 4) // 2 for side in size)

        def activated(features: int) -> list[nn.Module]:
            return [*([norm(features)] if norm else []), nn.Sigmoid()]

        self.body = nn.Sequential(
            nn.Conv2d(channels, 6, kernel_size=5, padding=2),
            *activated(6),
            nn.AvgPool2d(2),
            nn.Conv2d(6, 16, kernel_size=5),
            *activated(16),
            nn.AvgPool2d(2),
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
