"""Compute attention of queries on keys (notes: attention scores, multi-head attention).

Shapes: queries [B, Q, ...], keys and values [B, K, ...]. valid, bool [B, 1 or Q, K], marks the keys that a query may
attend to, at least one. Each layer returns (weighted mean of the values [B, Q, ...], weights [B, Q, K]).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def masked_softmax(scores: Tensor, valid: Tensor) -> Tensor:
    """Return the softmax of scores [..., K] over K, exactly 0 where `valid` (broadcast to scores) is False."""
    return scores.masked_fill(~valid, -math.inf).softmax(-1)


class DotProduct(nn.Module):
    """Scaled dot-product attention, softmax(q k / sqrt(d)) v (Vaswani et al. 2017).

    Takes queries [B, Q, d], keys [B, K, d] and values [B, K, v]. dropout: of the weights.
    """

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Return (weighted mean of the values [B, Q, v], weights [B, Q, K])."""
        scores = queries @ keys.transpose(-2, -1) / math.sqrt(queries.shape[-1])
        weights = masked_softmax(scores, valid)
        return F.dropout(weights, self.dropout, self.training) @ values, weights


class Additive(nn.Module):
    """Additive attention, whose score is an MLP, w tanh(W q + U k), with `hidden` units (Bahdanau et al. 2015).

    Takes queries [B, Q, queries], keys [B, K, keys] and values [B, K, v]. dropout: of the weights.
    """

    def __init__(self, queries: int, keys: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.query = nn.Linear(queries, hidden, bias=False)
        self.key = nn.Linear(keys, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)
        self.dropout = dropout

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Return (weighted mean of the values [B, Q, v], weights [B, Q, K])."""
        hidden = torch.tanh(self.query(queries)[:, :, None] + self.key(keys)[:, None])  # [B, Q, K, hidden]
        weights = masked_softmax(self.score(hidden)[..., 0], valid)
        return F.dropout(weights, self.dropout, self.training) @ values, weights


class MultiHead(nn.Module):
    """`heads` parallel dot-product attentions, each on its own projection to width / heads (Vaswani et al. 2017).

    `project` is separate from the call, so that a decoder can cache keys and values from step to step.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.attention = DotProduct(dropout)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values of x [B, K, width]: [B, heads, K, width / heads] each."""
        return self._split_heads(self.key(x)), self._split_heads(self.value(x))

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Return (result [B, Q, width], weights [B, Q, K]) of queries [B, Q, width].

        keys, values: from `project`. The weights are the mean over the heads.
        """
        context, weights = self.attention(self._split_heads(self.query(queries)), keys, values, valid[:, None])
        return self.out(context.transpose(1, 2).flatten(2)), weights.mean(1)

    def _split_heads(self, x: Tensor) -> Tensor:
        """Reshape [B, T, width] to [B, heads, T, width / heads]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
