"""Classify regions, and move their boxes, from their pooled features (notes: Fast R-CNN)."""

from __future__ import annotations

from torch import Tensor, nn


class RegionHead(nn.Module):
    """Map pooled features [B, R, channels, side, side] to logits [B, R, K + 1] and offsets [B, R, K, 4].

    The last logit is the background's. Every class has offsets of its own. hidden: units of the dense layer.
    """

    def __init__(self, channels: int, side: int, classes: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(channels * side * side, hidden), nn.ReLU(inplace=True))
        self.classes = nn.Linear(hidden, classes + 1)
        self.offsets = nn.Linear(hidden, classes * 4)
        nn.init.normal_(self.classes.weight, std=0.01)
        nn.init.normal_(self.offsets.weight, std=0.001)
        for layer in (self.classes, self.offsets):
            nn.init.zeros_(layer.bias)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits [B, R, K + 1] and offsets [B, R, K, 4]."""
        features = self.hidden(pooled.flatten(2))
        return self.classes(features).float(), self.offsets(features).float().unflatten(2, (-1, 4))
