"""A Transformer encoder for texts (Vaswani et al. 2017; notes: Transformer)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..errors import Refusal
from ..layers.positions import sinusoids
from ..recipes.ranges import Count, Fraction
from ..storage.vocabulary import PAD
from .transformer import EncoderLayer


class TextTransformer(nn.Module):
    """Map tokens [B, T] to logits [B, classes]: encoder layers, and the mean of their result over the tokens.

    width: of each token's vector, divided among `heads`. inner: units of the position-wise network.
    """

    def __init__(
        self,
        vocabulary: int,
        length: int,
        classes: int,
        width: Count = 64,
        heads: Count = 4,
        layers: Count = 2,
        inner: Count = 128,
        dropout: Fraction = 0.2,
    ) -> None:
        super().__init__()
        if width % heads or width % 2:
            raise Refusal(
                f"task.model.width: {width} must be even and a multiple of heads: {heads}; change one of them"
            )
        self.width = width
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=PAD)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.layers = nn.ModuleList(EncoderLayer(width, heads, inner, dropout) for _ in range(layers))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits [B, classes] of tokens [B, T]."""
        valid = tokens != PAD
        valid = torch.cat([torch.ones_like(valid[:, :1]), valid[:, 1:]], 1)  # attention needs a key
        positions = sinusoids(tokens.shape[1], self.width, device=tokens.device)
        x = self.dropout(self.embedding(tokens) * math.sqrt(self.width) + positions)
        for layer in self.layers:
            x = layer(x, valid[:, None])
        weights = valid[..., None].to(x.dtype)
        return self.head(self.dropout((x * weights).sum(1) / weights.sum(1)))
