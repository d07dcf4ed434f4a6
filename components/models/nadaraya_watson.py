"""Attention as kernel regression: a weighted mean of the values whose keys are near (Nadaraya 1964, Watson 1964)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ..recipes.ranges import Positive


class NadarayaWatson(nn.Module):
    """Queries [B, D], keys [N, D], values [N] -> the values' mean at each query [B], weighted by attention [B, N].

    pooling: average weighs all keys alike; gaussian by softmax(-(|query - key| * w)^2 / 2), w = 1 / `width`, in units
    of x (notes: attention pooling without parameters). learn: w is a parameter, and `width` where it begins.
    """

    def __init__(
        self, pooling: Literal["average", "gaussian"] = "gaussian", width: Positive = 1.0, learn: bool = False
    ) -> None:
        super().__init__()
        self.pooling, sharpness = pooling, torch.tensor(1 / width)
        self.w = nn.Parameter(sharpness) if learn else sharpness

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, hidden: Tensor | None = None) -> Tensor:
        """hidden bool [B, N]: keys that a query must not see."""
        return self.attention(queries, keys, hidden) @ values

    def attention(self, queries: Tensor, keys: Tensor, hidden: Tensor | None = None) -> Tensor:
        """The weights [B, N]: none negative, each row's sum 1."""
        squares = (queries[:, None] - keys[None]).square().sum(2)
        scores = torch.zeros_like(squares) if self.pooling == "average" else -squares * self.w.square() / 2
        return scores.masked_fill(hidden, -torch.inf).softmax(1) if hidden is not None else scores.softmax(1)
