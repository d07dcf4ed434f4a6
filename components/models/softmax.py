"""Softmax regression, the linear baseline (notes: classification)."""

from __future__ import annotations

from torch import Tensor, nn


class Softmax(nn.Module):
    """Map images [B, channels, *size] to logits [B, classes] by one dense layer."""

    def __init__(self, channels: int, size: tuple[int, int], classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(channels * size[0] * size[1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, classes] of images [B, channels, *size]."""
        return self.head(x.flatten(1))
