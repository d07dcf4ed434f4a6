"""An MLP over the last tokens: a fixed window, as n-grams have it (notes: autoregressive models)."""

from __future__ import annotations

from torch import Tensor, nn

from ..recipes.ranges import Count


class Window(nn.Module):
    """Map tokens [B, T] to logits [B, 1, outputs] at their end, from the last `window` of them alone."""

    def __init__(
        self, classes: int, outputs: Count | None = None, window: Count = 4, embedding: Count = 16, hidden: Count = 64
    ) -> None:
        super().__init__()
        self.window = window
        self.embedding = nn.Embedding(classes, embedding)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(window * embedding, hidden), nn.ReLU())
        self.head = nn.Linear(hidden, outputs or classes)

    def forward(self, tokens: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return (logits [B, 1, outputs], no states) of tokens [B, T], where T is at least `window`."""
        return self.head(self.body(self.embedding(tokens[:, tokens.shape[1] - self.window :])))[:, None], {}
