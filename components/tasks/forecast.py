"""Autoregression: predict the next value of a series from the values before it, and later values from predictions.

Notes, sequence models: the k-step prediction estimates value t + k - 1 from the true values before t. Its error
accumulates quickly as k grows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import Refusal
from ..optimizers import adam
from ..recipes.ranges import Count, Positive
from ..training.task import Batch, Shard, Spec, State, Task
from .regression import Regression

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The picture of the series shows predictions for the first HORIZONS of `ahead`, and the first ROWS examples.
HORIZONS = 3
ROWS = 300


class Forecast(Task):
    """Prediction of y, the value at `time` of a series, from x [tau], the values before it.

    ahead: numbers of steps k; the root mean squared error of each k-step prediction is the score error_k. model,
    criterion, delta: as in `tasks.regression.Regression`, which makes the one-step prediction.
    """

    monitor: ClassVar[tuple[str, str]] = Regression.monitor
    inputs: ClassVar[tuple[str, ...]] = ("x",)
    targets: ClassVar[tuple[str, ...]] = ("x", "y", "time")

    def __init__(
        self,
        model: Callable[..., nn.Module],
        optimizer: Callable[..., Optimizer] = adam,
        criterion: Literal["mse", "mae", "huber"] = "mse",
        delta: Positive | None = None,
        ahead: list[Count] = [1, 4, 16, 64],  # noqa: B006  (never modified)
    ) -> None:
        if not ahead:
            raise Refusal("task.ahead: name at least one number of steps, such as [1, 4]")
        self.regression = Regression(model, optimizer, criterion, delta)
        self.ahead = ahead

    def setup(self, spec: Spec) -> State:
        """Build the regression model."""
        spec.check_columns("Forecast", "time")
        return self.regression.setup(spec)

    def objective(self) -> str | None:
        """Return the objective of the one-step prediction."""
        return self.regression.objective()

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and metrics of the one-step prediction from true values."""
        return self.regression.loss(state, shard)

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return {"y": [B], "ahead": [B, K]} for K = max(ahead).

        Column k - 1 of "ahead" is the k-step prediction, an estimate of the value at time + k - 1.
        """
        window = batch["x"].float()
        predictions: list[Tensor] = []
        for _ in range(max(self.ahead)):
            predictions.append(self.regression.regress(state, window))
            window = torch.cat([window[:, 1:], predictions[-1][:, None]], 1)
        return {"y": predictions[0], "ahead": torch.stack(predictions, 1)}

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return mse, mae and r2 of the one-step prediction, and error_k in the unit of the series."""
        error = horizon_errors(predictions["ahead"], targets["y"], targets["time"])
        return self.regression.score(predictions, targets) | {f"error_{k}": float(error[k - 1]) for k in self.ahead}

    def outcomes(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> np.ndarray:
        """Return the squared errors of the one-step prediction [N]."""
        return self.regression.outcomes(predictions, targets)

    def constant(self, train: dict[str, Any], count: int) -> dict[str, np.ndarray]:
        """Return the mean of the training values, whatever the number of steps ahead."""
        mean = self.regression.constant(train, count)["y"]
        return {"y": mean, "ahead": np.tile(mean[:, None], max(self.ahead))}

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """Draw the one-step prediction against the truth, the error over k, and the series with predictions."""
        from ..drawings import figures

        ahead, time, y = predictions["ahead"], targets["time"], targets["y"]
        error = horizon_errors(ahead, y, time)
        steps = np.arange(1, len(error) + 1)
        first = np.argsort(time)[:ROWS]
        lines = {"truth": [(time[first], y[first])]}
        lines |= {f"{k} ahead": [(time[first] + k - 1, ahead[first, k - 1])] for k in self.ahead[:HORIZONS]}
        return self.regression.draw(state, predictions, targets) | {
            "error": figures.draw_curves({"error": [(steps, error)]}, "Root mean squared error over k", "steps ahead"),
            "series": figures.draw_curves(lines, "Predictions", "time"),
        }


def horizon_errors(ahead: np.ndarray, y: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Return the root mean squared errors [K] of the 1- to K-step predictions ahead [N, K].

    y [N]: true values. time int64 [N], in any order: the time of each y. Each k is measured on the rows whose true
    value k - 1 steps later is in y; Refusal if there is none.
    """
    order = np.argsort(time)
    errors = np.empty(ahead.shape[1])
    for step in range(ahead.shape[1]):
        at = np.minimum(np.searchsorted(time, time + step, sorter=order), len(time) - 1)
        target = order[at]
        available = time[target] == time + step
        if not available.any():
            raise Refusal(
                f"task.ahead: no two of {len(time)} examples are {step} steps apart;"
                " lower it, or give the data a longer split"
            )
        difference = ahead[available, step].astype(np.float64) - y[target[available]]
        errors[step] = np.sqrt(np.square(difference).mean())
    return errors
