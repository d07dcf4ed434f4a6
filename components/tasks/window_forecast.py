"""Forecast of several columns of a table over time, many steps at once, from a window of all columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from ..errors import Refusal
from ..optimizers import adam
from ..training.task import Batch, Shard, Spec, State, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure


SHOWN = 300  # windows in the picture of the series


class WindowForecast(Task):
    """Prediction of y [B, H, targets] from x [B, T, columns], rows of `data.series_table.SeriesTable`.

    model: factory called with (window, columns, horizon, targets). It reads columns of mean 0 and deviation 1, with the
    moments of the training split, and predicts the targets in the same units.

    The scores mse and mae are in these units, so that columns of different units count alike (as usual for ETTh1);
    `skill` is the part of the squared error of the last value, repeated, that the forecast avoids: at most 0 for a
    forecast that is no better.
    """

    monitor: ClassVar[tuple[str, str]] = ("mse", "min")
    inputs: ClassVar[tuple[str, ...]] = ("x",)
    targets: ClassVar[tuple[str, ...]] = ("last", "y", "time")

    def __init__(self, model: Callable[..., nn.Module], optimizer: Callable[..., Optimizer] = adam) -> None:
        self.model = model
        self.optimizer = optimizer
        self.names: list[str] = []
        self.moments: dict[str, tuple[Tensor, Tensor]] = {}

    def setup(self, spec: Spec) -> State:
        """Build the network for the shapes of x and y."""
        x, y = spec.columns.get("x", ()), spec.columns.get("y", ())
        if len(x) != 2 or len(y) != 2:
            raise Refusal(
                "task: WindowForecast needs x [window, columns] and y [horizon, targets], such as"
                f" data.series_table.SeriesTable; the data have {', '.join(spec.columns)}"
            )
        self.names = list(spec.classes)
        for name in ("x", "y"):
            moments = spec.statistics["moments"][name]
            self.moments[name] = (torch.tensor(moments["mean"]), torch.tensor(moments["std"]))
        net = self.model(window=x[0], columns=x[1], horizon=y[0], targets=y[1])
        return State(modules={"net": net}, optimizers={"net": self.optimizer(net.parameters())})

    def objective(self) -> str | None:
        """Return the score that is the training loss."""
        return "mse"

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean squared and the mean absolute error in units of the deviations."""
        predicted = state.modules["net"](self._standardize("x", shard.batch["x"])).float()
        y = self._standardize("y", shard.batch["y"])
        return F.mse_loss(predicted, y), {"mae": F.l1_loss(predicted.detach(), y)}

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return {"y": [B, H, targets]} in the units of the table."""
        predicted = state.modules["net"](self._standardize("x", batch["x"])).float()
        mean, deviation = (moment.to(predicted.device) for moment in self.moments["y"])
        return {"y": predicted * deviation + mean}

    def _standardize(self, name: str, values: Tensor) -> Tensor:
        mean, deviation = (moment.to(values.device) for moment in self.moments[name])
        return (values.float() - mean) / deviation

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return mse and mae in units of the deviations, skill, and mae_NAME in the unit of each column."""
        deviation = self.moments["y"][1].numpy().astype(np.float64)
        error = predictions["y"].astype(np.float64) - targets["y"]
        scores = {
            "mse": float(np.square(error / deviation).mean()),
            "mae": float(np.abs(error / deviation).mean()),
        }
        repeated = np.square((targets["last"][:, None] - targets["y"].astype(np.float64)) / deviation).mean()
        scores["skill"] = 1 - scores["mse"] / max(1e-12, float(repeated))
        return scores | {f"mae_{name}": float(np.abs(error[..., n]).mean()) for n, name in enumerate(self.names)}

    def outcomes(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> np.ndarray:
        """Return the mean squared error of each window [N], in units of the deviations."""
        deviation = self.moments["y"][1].numpy().astype(np.float64)
        error: np.ndarray = np.square((predictions["y"].astype(np.float64) - targets["y"]) / deviation).mean((1, 2))
        return error

    def constant(self, train: dict[str, Any], count: int) -> dict[str, np.ndarray] | None:
        """Return the mean of the training values at each step; None before `setup`, which brings the scores' unit."""
        if "y" not in self.moments:
            return None
        mean = train["y"].astype(np.float64).mean(0)
        return {"y": np.broadcast_to(mean, (count, *mean.shape))}

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """Draw the error over the horizon, and the truth and two forecasts of the first column."""
        from ..drawings import figures

        deviation = self.moments["y"][1].numpy().astype(np.float64)
        error = np.square((predictions["y"] - targets["y"]) / deviation)
        steps = np.arange(1, error.shape[1] + 1)
        curves = {name: [(steps, np.sqrt(error[..., n].mean(0)))] for n, name in enumerate(self.names)}
        rows = np.argsort(targets["time"])[:SHOWN]
        time = targets["time"][rows]
        last = error.shape[1] - 1
        lines = {"truth": [(time, targets["y"][rows, 0, 0])], "1 ahead": [(time, predictions["y"][rows, 0, 0])]}
        if last:
            lines[f"{last + 1} ahead"] = [(time + last, predictions["y"][rows, last, 0])]
        return {
            "horizon": figures.draw_curves(curves, "Root mean squared error, in deviations", "steps ahead"),
            "series": figures.draw_curves(lines, f"Forecasts of {self.names[0]}", "row"),
        }
