"""Read a sequence at once, by convolutions or by self-attention, with the interface of `models/recurrent.py`."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ..errors import Refusal
from ..recipes.ranges import Count, Fraction
from .encoders import HEADS, PARALLEL


class Reader(nn.Module):
    """Map tokens [B, T] to logits [B, T, outputs], in which every position may see all tokens.

    kind: of the encoder (`models/encoders.py`). hidden: a multiple of 4 for self-attention, otherwise even.
    """

    def __init__(
        self,
        classes: int,
        outputs: Count | None = None,
        kind: Literal["cnn", "self-attention"] = "self-attention",
        embedding: Count = 16,
        hidden: Count = 32,
        layers: Count = 2,
        dropout: Fraction = 0.0,
    ) -> None:
        super().__init__()
        step = HEADS if kind == "self-attention" else 2  # positions are encoded by pairs of numbers
        if hidden % step:
            raise Refusal(f"task.model.hidden: {hidden} is not a multiple of {step}, as kind: {kind} needs; change it")
        self.embedding = nn.Embedding(classes, embedding)
        self.body = PARALLEL[kind](embedding, hidden, layers, dropout)
        self.head = nn.Linear(hidden, outputs or classes)

    def forward(self, tokens: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return (logits [B, T, outputs], no states) of tokens [B, T]."""
        valid = torch.ones(tokens.shape, dtype=torch.bool, device=tokens.device)
        return self.head(self.body(self.embedding(tokens), valid)), {}
