"""Softmax regression: the linear baseline."""

from __future__ import annotations

from torch import Tensor, nn


class Softmax(nn.Module):
    """Flatten -> linear. Images [B, channels, *size] -> logits [B, classes]."""

    def __init__(self, channels: int, size: tuple[int, int], classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(channels * size[0] * size[1], classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1))
