"""Kernel regression as attention: a mean of values, weighted by the distance of keys (Nadaraya 1964, Watson 1964)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ..errors import Refusal
from ..recipes.ranges import Positive


class NadarayaWatson(nn.Module):
    """Map queries [B, D], keys [N, D] and values [N] to the weighted mean of the values at each query [B].

    pooling: "average" weights all keys equally; "gaussian" by softmax(-(|query - key| * w)^2 / 2), where w is 1 /
    `width` in units of x (notes: attention pooling without parameters). learn: w is a parameter that starts there.
    """

    def __init__(
        self, pooling: Literal["average", "gaussian"] = "gaussian", width: Positive = 1.0, learn: bool = False
    ) -> None:
        super().__init__()
        if learn and pooling == "average":
            raise Refusal("task.model.learn: pooling: average has no width to learn; set learn: false")
        self.pooling = pooling
        sharpness = torch.tensor(1 / width)
        self.w = nn.Parameter(sharpness) if learn else sharpness

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Return the weighted means [B]. hidden, bool [B, N], marks keys that a query must not attend to."""
        return self.attention(queries, keys, hidden) @ values

    def attention(self, queries: Tensor, keys: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Return the weights [B, N], which are not negative and sum to 1 in each row."""
        squares = (queries[:, None] - keys[None]).square().sum(2)
        scores = torch.zeros_like(squares) if self.pooling == "average" else -squares * self.w.square() / 2
        if hidden is not None:
            scores = scores.masked_fill(hidden, -torch.inf)
        return scores.softmax(1)
