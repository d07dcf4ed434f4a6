"""LeNet-5 by the notes: two sigmoid convolutions with average pooling, then 120-84-K (LeCun et al. 1998).

61,706 parameters for 1x28x28 and 10 classes. Other input sizes change the first linear layer alone.
"""

from __future__ import annotations

from torch import Tensor, nn


class LeNet(nn.Module):
    """Images [B, channels, *size] -> logits [B, classes]; sides of at least 14."""

    def __init__(self, channels: int, size: tuple[int, int], classes: int) -> None:
        super().__init__()
        height, width = ((side // 2 - 4) // 2 for side in size)
        self.body = nn.Sequential(
            nn.Conv2d(channels, 6, kernel_size=5, padding=2),
            nn.Sigmoid(),
            nn.AvgPool2d(2),
            nn.Conv2d(6, 16, kernel_size=5),
            nn.Sigmoid(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * height * width, 120),
            nn.Sigmoid(),
            nn.Linear(120, 84),
            nn.Sigmoid(),
        )
        self.head = nn.Linear(84, classes)
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)  # sigmoids saturate under torch's default

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))
