"""The Transformer: encoder and decoder of attention alone (notes: Transformer; Vaswani et al. 2017)."""

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
    """A translator with the methods of `models/seq2seq.py`; what `decode` keeps from step to step are keys and values.

    sources, targets: sizes of the two vocabularies. width: of every token's vector, shared between `heads`. inner:
    units of the position-wise network. dropout: on embeddings, on attention weights, on each sublayer before it is
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
            raise Refusal(f"task.model.width: {width} must be even and a multiple of heads: {heads}")
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
        """source [B, S], tokens [B, T] (the target from <bos> on) -> logits [B, T, targets]."""
        return self.decode(tokens, self.start(source))[0]

    def start(self, source: Tensor) -> States:
        """source [B, S] -> {"valid": [B, S]; for each layer n "cross_keys.n", "cross_values.n" [B, heads, S, d], of the
        source, and "keys.n", "values.n" [B, heads, 0, d], of the target so far}."""
        valid = source != PAD
        x = self._placed(self.source(source), 0)
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
        """tokens [B, T] -> (logits [B, T, targets], states); "attention" [B, T, S]: the last layer's, on the source."""
        past, count = states["keys.0"].shape[2], tokens.shape[1]
        x = self._placed(self.target(tokens), past)
        earlier = torch.ones(count, past + count, dtype=torch.bool, device=tokens.device).tril(past)[None]
        states = dict(states)
        for n, layer in enumerate(self.decoder):
            x, states["attention"] = layer(x, n, states, earlier)
        return self.head(x), states

    def _placed(self, vectors: Tensor, first: int) -> Tensor:
        """Vectors [B, T, width] of tokens first, first + 1, ..., with their positions."""
        places = sinusoids(vectors.shape[1], self.width, first, vectors.device)
        return self.dropout(vectors * math.sqrt(self.width) + places)


class EncoderLayer(nn.Module):
    """Self-attention, then the position-wise network, each added to its input and normalised: [B, S, width]."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.own = MultiHead(width, heads, dropout)
        self.network = position_wise_network(width, inner)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        x = self.norms[0](x + self.dropout(self.own(x, *self.own.project(x), valid)[0]))
        return self.norms[1](x + self.dropout(self.network(x)))


class DecoderLayer(nn.Module):
    """Self-attention on what came before, attention on the source, the position-wise network: [B, T, width]."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.own, self.cross = MultiHead(width, heads, dropout), MultiHead(width, heads, dropout)
        self.network = position_wise_network(width, inner)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, n: int, states: States, earlier: Tensor) -> tuple[Tensor, Tensor]:
        """Appends the keys and values of `x` to this layer's, the nth, in `states`; earlier bool [1, T, past + T]."""
        for name, new in zip((f"keys.{n}", f"values.{n}"), self.own.project(x), strict=True):
            states[name] = torch.cat([states[name], new], dim=2)
        x = self.norms[0](x + self.dropout(self.own(x, states[f"keys.{n}"], states[f"values.{n}"], earlier)[0]))
        source = states[f"cross_keys.{n}"], states[f"cross_values.{n}"], states["valid"][:, None]
        found, weights = self.cross(x, *source)
        x = self.norms[1](x + self.dropout(found))
        return self.norms[2](x + self.dropout(self.network(x))), weights


def position_wise_network(width: int, inner: int) -> nn.Sequential:
    """The same two dense layers at every position."""
    return nn.Sequential(nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, width))
