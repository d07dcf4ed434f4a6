"""BERT: a bidirectional Transformer encoder of text (Devlin et al. 2019; notes: BERT)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import Refusal
from ..layers.encoder import EPSILON, EncoderLayer, init_encoder, unpack
from ..recipes.ranges import Count, Fraction

SEGMENTS = 2
Pooling = Literal["first", "mean"]


class BERT(nn.Module):
    """Map tokens [B, T] to vectors [B, T, width].

    vocabulary: number of tokens. width: of the vector of each token, divided among `heads`. inner: units of the
    position-wise network. positions: the longest sequence. dropout: on embeddings, attention weights and sublayers.
    attention_dropout: on attention weights instead (None: `dropout`); with 0, a processor has a fused kernel for them,
    which is four times as fast for 220 tokens.

    The defaults are BERT-Base, 110 million parameters with its 30,522 tokens; Large is width 1024, layers 24, heads 16,
    inner 4096: 340 million.
    """

    def __init__(
        self,
        vocabulary: int,
        width: Count = 768,
        layers: Count = 12,
        heads: Count = 12,
        inner: Count = 3072,
        positions: Count = 512,
        dropout: Fraction = 0.1,
        attention_dropout: Fraction | None = None,
    ) -> None:
        super().__init__()
        if width % heads:
            raise Refusal(f"task.model.width: {width} must be a multiple of heads: {heads}; change one of them")
        self.width = width
        self.positions = positions
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(positions, width)
        self.segment = nn.Embedding(SEGMENTS, width)
        self.norm = nn.LayerNorm(width, EPSILON)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            EncoderLayer(width, heads, inner, dropout, attention_dropout) for _ in range(layers)
        )
        self.pooler = nn.Linear(width, width)
        self.sizes = {"width": width, "layers": layers, "heads": heads, "inner": inner, "positions": positions}
        init_encoder(self)

    def forward(self, tokens: Tensor, segments: Tensor | None = None, valid: Tensor | None = None) -> Tensor:
        """Return vectors [B, T, width] of tokens [B, T].

        segments: 0 or 1, the sentence of each token [B, T] (None: all 0). valid: bool [B, T], False for padding.
        """
        return self.hidden_states(tokens, segments, valid)[-1]

    def hidden_states(
        self, tokens: Tensor, segments: Tensor | None = None, valid: Tensor | None = None
    ) -> list[Tensor]:
        """Return the embeddings and the output of every layer: layers + 1 tensors [B, T, width].

        On a processor, padding costs no work outside of the attention, and its vectors are 0. On a GPU, where packing
        would wait for the number of tokens, they are arbitrary.
        """
        segments = torch.zeros_like(tokens) if segments is None else segments
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.token(tokens) + self.position(positions) + self.segment(segments)
        is_packed = valid is not None and x.device.type == "cpu" and not torch.compiler.is_compiling()
        states = [self.dropout(self.norm(x[valid] if is_packed else x))]
        for layer in self.layers:
            states.append(layer(states[-1], valid))
        return [unpack(state, valid) for state in states] if valid is not None and is_packed else states

    def pool(self, hidden: Tensor) -> Tensor:
        """Return the vector of the sequence [B, width]: a dense layer on its first token, [CLS]."""
        return torch.tanh(self.pooler(hidden[:, 0]))


class PretrainingHeads(nn.Module):
    """The output layers of pretraining: the token at a masked position, and whether the second sentence follows."""

    def __init__(self, body: BERT) -> None:
        super().__init__()
        vocabulary, width = body.token.weight.shape
        self.transform = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, EPSILON)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.following = nn.Linear(width, 2)
        init_encoder(self)

    def predict_tokens(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        """Return logits [N, vocabulary] of vectors [N, width]; embedding: of the tokens, which the output shares."""
        return F.linear(self.norm(F.gelu(self.transform(hidden))), embedding, self.bias)


class PretrainingNet(nn.Module):
    """A BERT with the output layers of pretraining."""

    def __init__(self, body: BERT) -> None:
        super().__init__()
        self.body = body
        self.head = PretrainingHeads(body)

    def forward(
        self, tokens: Tensor, segments: Tensor, valid: Tensor, positions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return (logits [B, M, vocabulary], logits [B, 2], vectors [B, T, width]).

        The first are those of the tokens at `positions` [B, M]. The second are for: the second sentence follows the
        first (0), or is another (1), as published.
        """
        hidden = self.body(tokens, segments, valid)
        masked = hidden.gather(1, positions[:, :, None].expand(-1, -1, hidden.shape[2]))
        logits = self.head.predict_tokens(masked, self.body.token.weight)
        return logits, self.head.following(self.body.pool(hidden)), hidden


class FinetuningNet(nn.Module):
    """A BERT with only an output layer added, `head`.

    outputs: of the head. pooling: the vector that it sees: "first", a dense layer on that of [CLS]; "mean", the mean
    over all tokens; None, every token by itself.
    """

    def __init__(self, body: BERT, outputs: int, pooling: Pooling | None, dropout: float = 0.1) -> None:
        super().__init__()
        self.body = body
        self.pooling = pooling
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(body.width, outputs)
        init_encoder(self.head)

    def forward(self, tokens: Tensor, segments: Tensor, valid: Tensor) -> Tensor:
        """Return logits [B, outputs] if pooled, otherwise [B, T, outputs]."""
        hidden = self.body(tokens, segments, valid)
        if self.pooling == "first":
            hidden = self.body.pool(hidden)
        elif self.pooling == "mean":
            hidden = mean_vectors(hidden, valid)
        return self.head(self.dropout(hidden))


def mean_vectors(hidden: Tensor, valid: Tensor) -> Tensor:
    """Return the mean [B, width] over the valid tokens of vectors [B, T, width]."""
    weights = valid.to(hidden.dtype)[:, :, None]
    return hidden.where(valid[:, :, None], 0).sum(1) / weights.sum(1)
