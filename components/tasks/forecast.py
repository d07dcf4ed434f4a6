"""Autoregression: the next value of a series from the ones before it, then the one after that from the prediction.

Notes, sequence models: the prediction of value t + k from what is known up to t is the k-step prediction; its errors
pile up as k grows, and fast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import Refusal
from ..optimizers import adam
from ..recipes.ranges import Count, Positive
from ..training.task import Batch, Shard, Spec, State, Task
from .regression import Regression

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN, ROWS = 3, 300  # of `ahead` and of the examples, the first ones, in the picture of the series


class Forecast(Task):
    """Learns to predict y, value `time` of a series, from x [tau], the values before it.

    ahead: for each of these k the root mean squared error of the k-step prediction is a score, error_k. model,
    criterion, delta: as in `tasks.regression.Regression`, which this is for one step.
    """

    monitor: ClassVar[tuple[str, str]] = Regression.monitor
    inputs: ClassVar[tuple[str, ...]] = ("x",)
    targets: ClassVar[tuple[str, ...]] = ("x", "y", "time")

    def __init__(
        self,
        model: Callable[..., nn.Module],
        optimizer: Callable = adam,
        criterion: Literal["mse", "mae", "huber"] = "mse",
        delta: Positive | None = None,
        ahead: list[Count] = [1, 4, 16, 64],  # noqa: B006  (never written to)
    ) -> None:
        if not ahead:
            raise Refusal("task.ahead: name at least one number of steps, such as [1, 4]")
        self.regression, self.ahead = Regression(model, optimizer, criterion, delta), ahead

    def setup(self, spec: Spec) -> State:
        if "time" not in spec.columns:
            raise Refusal(f"task: Forecast needs a column 'time', the data have: {', '.join(spec.columns)}")
        return self.regression.setup(spec)

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Of one step, from true values."""
        return self.regression.loss(state, shard)

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """{"y": [B], "ahead": [B, K]}: K the most of `ahead`; column k - 1 is the prediction of value time + k - 1."""
        window, found = batch["x"].float(), []
        for _ in range(max(self.ahead)):
            found.append(self.regression.predicted(state, window))
            window = torch.cat([window[:, 1:], found[-1][:, None]], 1)
        return {"y": found[0], "ahead": torch.stack(found, 1)}

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """{mse, mae, r2} of one step, {error_k}, in the series' unit."""
        error = errors(predictions["ahead"], targets["y"], targets["time"])
        return self.regression.score(predictions, targets) | {f"error_{k}": float(error[k - 1]) for k in self.ahead}

    def outcomes(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> np.ndarray:
        return self.regression.outcomes(predictions, targets)

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """One step against the truth; the error over k; the series beside its predictions of several k."""
        from ..drawings import figures

        ahead, time, y = predictions["ahead"], targets["time"], targets["y"]
        error = errors(ahead, y, time)
        steps = np.arange(1, len(error) + 1)
        first = np.argsort(time)[:ROWS]
        lines = {"truth": [(time[first], y[first])]}
        lines |= {f"{k} ahead": [(time[first] + k - 1, ahead[first, k - 1])] for k in self.ahead[:SHOWN]}
        return self.regression.draw(state, predictions, targets) | {
            "error": figures.draw_curves({"error": [(steps, error)]}, "Root mean squared error over k", "steps ahead"),
            "series": figures.draw_curves(lines, "Predictions", "time"),
        }


def errors(ahead: np.ndarray, y: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Root mean squared error of the 1- ... K-step predictions ahead [N, K], over those whose truth is in y [N]: [K].

    time int64 [N], in any order: when each y is. Every k is measured on the rows that have a truth for it.
    """
    order = np.argsort(time)
    found = np.empty(ahead.shape[1])
    for step in range(ahead.shape[1]):
        at = np.minimum(np.searchsorted(time, time + step, sorter=order), len(time) - 1)
        truth = order[at]
        there = time[truth] == time + step
        if not there.any():
            raise Refusal(
                f"task.ahead: no two of {len(time)} examples lie {step} steps apart;"
                " lower it, or give the data a longer split"
            )
        found[step] = np.sqrt(np.square(ahead[there, step].astype(np.float64) - y[truth[there]]).mean())
    return found
