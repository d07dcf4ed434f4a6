"""A decoder-only Transformer (GPT-2: Radford et al. 2019; notes: Transformer, self-supervised learning)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import Refusal
from ..recipes.ranges import Count, Fraction

States = dict[str, Tensor]
INITIAL_STD = 0.02  # of all weights, as in GPT-2


class GPT(nn.Module):
    """Map tokens [B, T] to logits [B, T, classes] and cached keys and values; each token sees those before it alone.

    Positions are learned, up to `context` tokens. Layers normalise their input (pre-norm), and the output layer is the
    transposed table of token vectors (tied embeddings), as in GPT-2. width: of the vector of each token, divided among
    `heads`; the position-wise network has 4 * width units. dropout: on vectors, attention weights and each sublayer.
    """

    def __init__(
        self,
        classes: int,
        context: Count = 64,
        width: Count = 128,
        heads: Count = 4,
        layers: Count = 4,
        dropout: Fraction = 0.0,
    ) -> None:
        super().__init__()
        if width % heads:
            raise Refusal(f"task.model.width: {width} must be a multiple of heads: {heads}; change one of them")
        self.context = context
        self.embedding, self.position = nn.Embedding(classes, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                # sublayers are added up: smaller weights keep the variance of the sum (GPT-2)
                scale = (2 * layers) ** -0.5 if name.endswith("out.weight") else 1.0
                nn.init.normal_(parameter, std=INITIAL_STD * scale)
            elif "norm" not in name:
                nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor, states: States | None = None) -> tuple[Tensor, States]:
        """Return (logits [B, T, classes], states) of tokens [B, T].

        states: those of an earlier call, to continue the same texts: "keys.n" and "values.n" [B, heads, past, d] of
        each layer n, and "token" [B, past]. A text that grows beyond `context` forgets its older half: the newer half
        is then read again from its start, because keys contain absolute positions.
        """
        count = tokens.shape[1]
        if count > self.context:
            raise Refusal(
                f"task.model.context: {self.context} is smaller than a window of {count} tokens; raise it, or lower"
                " data.steps"
            )
        past = states["token"] if states else tokens[:, :0]
        if past.shape[1] + count > self.context:
            remembered = min(self.context // 2, self.context - count)
            past = past[:, past.shape[1] - remembered :]
            if remembered:
                logits, states = self._read(torch.cat([past, tokens], dim=1), {})
                return logits[:, remembered:], states
            states = {}
        return self._read(tokens, states or {})

    def _read(self, tokens: Tensor, states: States) -> tuple[Tensor, States]:
        """Return (logits [B, T, classes], states) of tokens [B, T] that fit into the context after `states`."""
        first = states["token"].shape[1] if states else 0
        positions = torch.arange(first, first + tokens.shape[1], device=tokens.device)
        x = self.dropout(self.embedding(tokens) + self.position(positions))
        after = {"token": torch.cat([states["token"], tokens], dim=1) if states else tokens}
        for n, block in enumerate(self.blocks):
            cached = (states[f"keys.{n}"], states[f"values.{n}"]) if states else None
            x, (after[f"keys.{n}"], after[f"values.{n}"]) = block(x, cached)
        return F.linear(self.norm(x), self.embedding.weight), after


class Block(nn.Module):
    """Causal self-attention, then the position-wise network; each normalises its input and is added to it."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.attention_norm, self.network_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.inner, self.network_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, cached: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return (vectors [B, T, width], keys and values [B, heads, past + T, d]) of x [B, T, width].

        cached: keys and values [B, heads, past, d] of the tokens before x, or None at the start of a text.
        """
        projected = self.queries_keys_values(self.attention_norm(x)).unflatten(2, (3, self.heads, -1))
        queries, keys, values = projected.permute(2, 0, 3, 1, 4)
        mask = None
        if cached is not None:
            keys, values = torch.cat([cached[0], keys], dim=2), torch.cat([cached[1], values], dim=2)
            past = cached[0].shape[2]
            mask = torch.ones(x.shape[1], past + x.shape[1], dtype=torch.bool, device=x.device).tril(past)
        context = F.scaled_dot_product_attention(
            queries, keys, values, mask, dropout_p=self.dropout if self.training else 0.0, is_causal=mask is None
        )
        x = x + self._drop(self.attention_out(context.transpose(1, 2).flatten(2)))
        inner = F.gelu(self.inner(self.network_norm(x)), approximate="tanh")
        return x + self._drop(self.network_out(inner)), (keys, values)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)
