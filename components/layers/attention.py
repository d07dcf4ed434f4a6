"""Attention: what a query finds among keys (notes: attention scores, multi-head attention).

Shapes: queries [B, Q, ...], keys and values [B, K, ...]; valid bool [B, 1 or Q, K] says which keys a query may see, at
least one. Each layer gives (the mean of the values by their weights [B, Q, ...], the weights [B, Q, K]).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def masked_softmax(scores: Tensor, valid: Tensor) -> Tensor:
    """Over the last dimension; where `valid` (of a shape that fits) is False, exactly 0."""
    return scores.masked_fill(~valid, -math.inf).softmax(-1)


class DotProduct(nn.Module):
    """softmax(q k / sqrt(d)) v: queries and keys of one width d (Vaswani et al. 2017). dropout: of the weights."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        scores = queries @ keys.transpose(-2, -1) / math.sqrt(queries.shape[-1])
        weights = masked_softmax(scores, valid)
        return F.dropout(weights, self.dropout, self.training) @ values, weights


class Additive(nn.Module):
    """softmax(v tanh(W q + U k)) v: an MLP with one hidden layer of `hidden` units (Bahdanau et al. 2015)."""

    def __init__(self, queries: int, keys: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.query = nn.Linear(queries, hidden, bias=False)
        self.key = nn.Linear(keys, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)
        self.dropout = dropout

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.tanh(self.query(queries)[:, :, None] + self.key(keys)[:, None])  # [B, Q, K, hidden]
        weights = masked_softmax(self.score(hidden)[..., 0], valid)
        return F.dropout(weights, self.dropout, self.training) @ values, weights


class MultiHead(nn.Module):
    """`heads` dot-product attentions side by side, each on its own projection to width / heads (Vaswani et al. 2017).

    Keys and values are projected by `read`, apart from the call, so that a decoder can keep them from step to step.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.attention = DotProduct(dropout)

    def read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What to look at [B, K, width] -> keys, values: [B, heads, K, width / heads] each."""
        return self.split(self.key(x)), self.split(self.value(x))

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """queries [B, Q, width]; keys and values as `read` gives them -> ([B, Q, width], weights, the heads' mean)."""
        found, weights = self.attention(self.split(self.query(queries)), keys, values, valid[:, None])
        return self.out(found.transpose(1, 2).flatten(2)), weights.mean(1)

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
