"""The encoder of BERT: layers of self-attention and a position-wise network, normalised after each (notes: BERT)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

EPSILON = 1e-12  # of the normalisation, as published
STD = 0.02  # of the first weights, as published


class SelfAttention(nn.Module):
    """Scaled dot-product attention of `heads` heads of a sequence on itself (Vaswani et al. 2017)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Return vectors [B, T, width] of x [B, T, width]; valid, bool [B, T], is False for padding (None: none).

        An x of two dimensions holds the N valid tokens alone, [N, width], and so does the result.
        """
        is_packed = valid is not None and x.ndim == 2
        projected = [part(x) for part in (self.query, self.key, self.value)]
        if valid is not None and is_packed:
            projected = [unpack(vectors, valid) for vectors in projected]
        query, key, value = (vectors.unflatten(-1, (self.heads, -1)).transpose(1, 2) for vectors in projected)
        mask = None if valid is None else valid[:, None, None]
        dropout = self.dropout if self.training else 0.0
        context = F.scaled_dot_product_attention(query, key, value, mask, dropout).transpose(1, 2).flatten(2)
        return self.out(context[valid] if is_packed else context)


def unpack(vectors: Tensor, valid: Tensor) -> Tensor:
    """Return the vectors [N, width] of the valid tokens in their places, [B, T, width], and 0 elsewhere."""
    places = vectors.new_zeros(*valid.shape, vectors.shape[-1])
    places[valid] = vectors
    return places


class EncoderLayer(nn.Module):
    """Self-attention, then a network with GELU, each added to its input and normalised.

    attention_dropout: on the weights of the attention (None: `dropout`).
    """

    def __init__(
        self, width: int, heads: int, inner: int, dropout: float, attention_dropout: float | None = None
    ) -> None:
        super().__init__()
        self.attention = SelfAttention(width, heads, dropout if attention_dropout is None else attention_dropout)
        self.attention_norm = nn.LayerNorm(width, EPSILON)
        self.inner = nn.Linear(width, inner)
        self.outer = nn.Linear(inner, width)
        self.norm = nn.LayerNorm(width, EPSILON)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Return vectors of x, both [B, T, width] or [N, width]; valid: see `SelfAttention`."""
        x = self.attention_norm(x + self.dropout(self.attention(x, valid)))
        return self.norm(x + self.dropout(self.outer(F.gelu(self.inner(x)))))


def init_encoder(net: nn.Module) -> None:
    """Initialise all weights of `net` with a normal distribution, biases with zero and norms with one."""
    for layer in net.modules():
        if isinstance(layer, nn.Linear | nn.Embedding):
            nn.init.normal_(layer.weight, std=STD)
        if isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.bias)
