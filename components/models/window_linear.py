"""The linear baseline of forecasting from windows (NLinear of Zeng et al. 2023, Are Transformers Effective ...)."""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import Refusal


class WindowLinear(nn.Module):
    """Map windows [B, window, columns] to forecasts [B, horizon, targets] by one matrix over all values of the window.

    difference: the last values of the targets, which must be all columns, are subtracted before and added after. Each
    column then has a matrix of its own over time, as in NLinear.
    """

    def __init__(self, window: int, columns: int, horizon: int, targets: int, difference: bool = False) -> None:
        super().__init__()
        if difference and columns != targets:
            raise Refusal("task.model.difference: needs all columns as targets; drop it, or targets of the data")
        self.difference = difference
        self.shape = (horizon, targets)
        self.head = nn.Linear(window, horizon) if difference else nn.Linear(window * columns, horizon * targets)

    def forward(self, x: Tensor) -> Tensor:
        """Return forecasts [B, horizon, targets] of windows x [B, window, columns]."""
        if not self.difference:
            return self.head(x.flatten(1)).unflatten(1, self.shape)
        last = x[:, -1:]
        return self.head((x - last).transpose(1, 2)).transpose(1, 2) + last
