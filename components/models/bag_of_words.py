"""The linear baseline for texts: logistic regression on which tokens occur."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ..recipes.ranges import Fraction
from ..storage.vocabulary import PAD


class BagOfWords(nn.Module):
    """Map tokens [B, T] to logits [B, classes] by one weight per token and class, without their order.

    weighting: "binary" counts a token once per text, "count" as often as it occurs. The vector of a text is divided by
    its length, so that long and short texts are on one scale. dropout: of the tokens of a text.
    """

    def __init__(
        self,
        vocabulary: int,
        length: int,
        classes: int,
        weighting: Literal["binary", "count"] = "binary",
        dropout: Fraction = 0.0,
    ) -> None:
        super().__init__()
        self.binary = weighting == "binary"
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(vocabulary, classes)
        nn.init.zeros_(self.head.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits [B, classes] of tokens [B, T]."""
        counts = torch.zeros(len(tokens), self.head.in_features, device=tokens.device, dtype=self.head.weight.dtype)
        counts = counts.scatter_add(1, tokens, (tokens != PAD).to(counts.dtype))
        if self.binary:
            counts = counts.clamp(max=1)
        norms = counts.square().sum(1, keepdim=True).sqrt().clamp(min=1)
        return self.head(self.dropout(counts / norms))
