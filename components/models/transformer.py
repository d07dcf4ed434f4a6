"""The Transformer: an encoder and a decoder built from attention (Vaswani et al. 2017; notes: Transformer)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..data.parallel import PAD
from ..errors import Refusal
from ..layers.attention import MultiHead
from ..layers.positions import sinusoids
from ..recipes.ranges import Count, Fraction

States = dict[str, Tensor]


class Transformer(nn.Module):
    """A translator with the methods of `models/seq2seq.py`, whose states are cached keys and values.

    sources, targets: sizes of the two vocabularies. width: of the vector of each token, divided among `heads`. inner:
    units of the position-wise network. dropout: on embeddings, on attention weights, and on each sublayer before it is
    added.
    """

    def __init__(
        self,
        sources: int,
        targets: int,
        width: Count = 128,
        heads: Count = 4,
        layers: Count = 2,
        inner: Count = 256,
        dropout: Fraction = 0.1,
    ) -> None:
        super().__init__()
        if width % heads or width % 2:
            raise Refusal(
                f"task.model.width: {width} must be even and a multiple of heads: {heads}; change one of them"
            )
        self.width = width
        self.source, self.target = nn.Embedding(sources, width), nn.Embedding(targets, width)
        self.encoder = nn.ModuleList(EncoderLayer(width, heads, inner, dropout) for _ in range(layers))
        self.decoder = nn.ModuleList(DecoderLayer(width, heads, inner, dropout) for _ in range(layers))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, targets)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
            elif isinstance(layer, nn.Embedding):
                nn.init.normal_(layer.weight, std=width**-0.5)

    def forward(self, source: Tensor, tokens: Tensor) -> Tensor:
        """Return logits [B, T, targets] of source [B, S] and tokens [B, T], the target from <bos> on."""
        return self.decode(tokens, self.start(source))[0]

    def start(self, source: Tensor) -> States:
        """Encode source [B, S] and return the first states of the decoder.

        They are "valid" [B, S] and, for each layer n, keys and values of the source, "cross_keys.n" and
        "cross_values.n" [B, heads, S, d], and of the target so far, "keys.n" and "values.n" [B, heads, 0, d].
        """
        valid = source != PAD
        x = self._embed(self.source(source), 0)
        for layer in self.encoder:
            x = layer(x, valid[:, None])
        states = {"valid": valid}
        decoder: Any = self.decoder
        for n, layer in enumerate(decoder):
            keys, values = layer.cross.project(x)
            states |= {f"cross_keys.{n}": keys, f"cross_values.{n}": values}
            states |= {f"keys.{n}": keys[:, :, :0], f"values.{n}": values[:, :, :0]}
        return states

    def decode(self, tokens: Tensor, states: States) -> tuple[Tensor, States]:
        """Return (logits [B, T, targets], states after the last token) of tokens [B, T].

        The states include "attention" [B, T, S], the weights of the last layer on the source.
        """
        past = states["keys.0"].shape[2]
        count = tokens.shape[1]
        x = self._embed(self.target(tokens), past)
        earlier = torch.ones(count, past + count, dtype=torch.bool, device=tokens.device).tril(past)[None]
        states = dict(states)
        for n, layer in enumerate(self.decoder):
            x, states["attention"] = layer(x, n, states, earlier)
        return self.head(x), states

    def _embed(self, vectors: Tensor, first: int) -> Tensor:
        """Add the encodings of positions first, first + 1, ... to the scaled token vectors [B, T, width]."""
        positions = sinusoids(vectors.shape[1], self.width, first, vectors.device)
        return self.dropout(vectors * math.sqrt(self.width) + positions)


class EncoderLayer(nn.Module):
    """Self-attention, then the position-wise network, each added to its input and normalised."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.own = MultiHead(width, heads, dropout)
        self.network = position_wise_network(width, inner)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Return vectors [B, S, width] of x [B, S, width]; valid, bool [B, 1, S], is False for padding."""
        x = self.norms[0](x + self.dropout(self.own(x, *self.own.project(x), valid)[0]))
        return self.norms[1](x + self.dropout(self.network(x)))


class DecoderLayer(nn.Module):
    """Self-attention on earlier tokens, attention on the source, and the position-wise network."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.own, self.cross = MultiHead(width, heads, dropout), MultiHead(width, heads, dropout)
        self.network = position_wise_network(width, inner)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, n: int, states: States, earlier: Tensor) -> tuple[Tensor, Tensor]:
        """Return (vectors [B, T, width], attention weights on the source [B, T, S]) of x [B, T, width].

        Appends keys and values of `x` to those of this layer, number `n`, in `states`. earlier, bool [1, T, past + T],
        marks the tokens that each token may attend to.
        """
        for name, new in zip((f"keys.{n}", f"values.{n}"), self.own.project(x), strict=True):
            states[name] = torch.cat([states[name], new], dim=2)
        x = self.norms[0](x + self.dropout(self.own(x, states[f"keys.{n}"], states[f"values.{n}"], earlier)[0]))
        source = states[f"cross_keys.{n}"], states[f"cross_values.{n}"], states["valid"][:, None]
        context, weights = self.cross(x, *source)
        x = self.norms[1](x + self.dropout(context))
        return self.norms[2](x + self.dropout(self.network(x))), weights


def position_wise_network(width: int, inner: int) -> nn.Sequential:
    """Return two dense layers that are applied at every position: [..., width] -> [..., width]."""
    return nn.Sequential(nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, width))
