"""Encode a source without recurrence: all tokens at once, by convolutions or by self-attention (notes: Transformer)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from ..layers.positions import sinusoids
from .transformer import EncoderLayer

KERNEL = 3  # tokens that a convolution reads
HEADS = 4


class ConvolutionalEncoder(nn.Module):
    """Gated convolutions over KERNEL tokens, each added to its input (ConvS2S: Gehring et al. 2017).

    Unlike there, positions are encoded by sinusoids and nothing is scaled.
    """

    def __init__(self, embedding: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.width, self.dropout = hidden, dropout
        self.project = nn.Linear(embedding, hidden)
        self.layers = nn.ModuleList(nn.Conv1d(hidden, 2 * hidden, KERNEL, padding=KERNEL // 2) for _ in range(layers))

    def forward(self, vectors: Tensor, valid: Tensor) -> Tensor:
        """Return outputs [B, S, hidden] of vectors [B, S, embedding]; valid, bool [B, S], is False for padding."""
        x = self.project(vectors) + sinusoids(vectors.shape[1], self.width, device=vectors.device)
        for layer in self.layers:
            # padding counts as zero, as beyond the ends of a sentence
            inputs = F.dropout(x * valid[..., None], self.dropout, self.training)
            x = x + F.glu(layer(inputs.transpose(1, 2)).transpose(1, 2))
        return x


class AttentionEncoder(nn.Module):
    """The encoder of a Transformer with HEADS heads and 2 * hidden units in its position-wise networks."""

    def __init__(self, embedding: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.width = hidden
        self.project = nn.Linear(embedding, hidden)
        self.layers = nn.ModuleList(EncoderLayer(hidden, HEADS, 2 * hidden, dropout) for _ in range(layers))

    def forward(self, vectors: Tensor, valid: Tensor) -> Tensor:
        """Return outputs [B, S, hidden] of vectors [B, S, embedding]; valid, bool [B, S], is False for padding."""
        x = self.project(vectors) + sinusoids(vectors.shape[1], self.width, device=vectors.device)
        for layer in self.layers:
            x = layer(x, valid[:, None])
        return x


PARALLEL = {"cnn": ConvolutionalEncoder, "self-attention": AttentionEncoder}
