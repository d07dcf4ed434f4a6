"""A recurrent discriminator that judges a sequence after every token (de Masson d'Autume et al. 2019)."""

from __future__ import annotations

from torch import Tensor, nn

from ..recipes.ranges import Count


class SequenceDiscriminator(nn.Module):
    """Map tokens [B, T] to logits [B, T] that the sequence up to each token is the beginning of a real one."""

    def __init__(self, classes: int, embedding: Count = 32, hidden: Count = 64) -> None:
        super().__init__()
        self.embedding = nn.Embedding(classes, embedding)
        self.body = nn.GRU(embedding, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits [B, T] of tokens [B, T]."""
        return self.head(self.body(self.embedding(tokens))[0]).squeeze(2)
