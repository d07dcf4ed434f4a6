"""A recurrent network that forecasts from windows (notes: GRU)."""

from __future__ import annotations

from torch import Tensor, nn

from ..recipes.ranges import Count, Fraction


class WindowGRU(nn.Module):
    """Map windows [B, window, columns] to forecasts [B, horizon, targets] from the state after the last row."""

    def __init__(
        self, window: int, columns: int, horizon: int, targets: int, hidden: Count = 64, dropout: Fraction = 0.0
    ) -> None:
        super().__init__()
        self.shape = (horizon, targets)
        self.body = nn.GRU(columns, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, horizon * targets)

    def forward(self, x: Tensor) -> Tensor:
        """Return forecasts [B, horizon, targets] of windows x [B, window, columns]."""
        states, _ = self.body(x)
        return self.head(self.dropout(states[:, -1])).unflatten(1, self.shape)
