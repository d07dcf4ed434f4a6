"""Regression: predict one number from others (notes: MSE, MAE)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from ..errors import Refusal
from ..metrics.regression import regression_scores
from ..optimizers import adam
from ..recipes.ranges import Positive
from ..training.task import Batch, Shard, Spec, State, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Regression(Task):
    """Prediction of the column y [N] from the column x [N] or [N, D].

    model: factory called with (channels=D, size=(1, 1), classes=1), like the networks for pictures: x counts as a
    picture of one pixel. criterion: "mse" estimates the mean of y at x, "mae" its median; "huber" is quadratic for
    errors up to `delta` (default 1) and linear beyond (Huber 1964).
    """

    monitor: ClassVar[tuple[str, str]] = ("mse", "min")
    inputs: ClassVar[tuple[str, ...]] = ("x",)
    targets: ClassVar[tuple[str, ...]] = ("x", "y")

    def __init__(
        self,
        model: Callable[..., nn.Module],
        optimizer: Callable[..., Optimizer] = adam,
        criterion: Literal["mse", "mae", "huber"] = "mse",
        delta: Positive | None = None,
    ) -> None:
        if delta is not None and criterion != "huber":
            raise Refusal(f"task.delta: applies to criterion: huber only; leave it out with criterion: {criterion}")
        self.model = model
        self.optimizer = optimizer
        self.criterion = criterion
        self.delta = 1.0 if delta is None else delta

    def setup(self, spec: Spec) -> State:
        """Build the network and its optimiser."""
        net = self.model(channels=input_size(spec), size=(1, 1), classes=1)
        return State(modules={"net": net}, optimizers={"net": self.optimizer(net.parameters())})

    def objective(self) -> str | None:
        """Return "mse" or "mae" if that is the criterion."""
        return None if self.criterion == "huber" else self.criterion

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the criterion's mean loss and the mean absolute error for x [B] or [B, D] and y [B]."""
        predicted = self.regress(state, shard.batch["x"])
        y = shard.batch["y"].float()
        return self._mean_loss(predicted, y), {"mae": F.l1_loss(predicted.detach(), y)}

    def _mean_loss(self, predicted: Tensor, y: Tensor) -> Tensor:
        """Return the criterion's mean loss [] for predicted [B] and y [B]."""
        if self.criterion == "huber":
            return F.huber_loss(predicted, y, delta=self.delta)
        return F.mse_loss(predicted, y) if self.criterion == "mse" else F.l1_loss(predicted, y)

    def regress(self, state: State, x: Tensor) -> Tensor:
        """Return the predictions [B] for x [B] or [B, D]."""
        return state.modules["net"](x.reshape(len(x), -1, 1, 1).float()).float().squeeze(1)

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return {"y": [B]}."""
        return {"y": self.regress(state, batch["x"])}

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return mse, mae and r2."""
        return regression_scores(predictions["y"], targets["y"])

    def outcomes(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> np.ndarray:
        """Return the squared errors [N]."""
        return np.square(predictions["y"].astype(np.float64) - targets["y"])

    def constant(self, train: dict[str, Any], count: int) -> dict[str, np.ndarray]:
        """Return the mean of the training values or, where the absolute error is trained, their median."""
        y = train["y"].astype(np.float64)
        return {"y": np.full(count, np.median(y) if self.criterion == "mae" else y.mean())}

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """Draw the prediction against the truth and, if x is a single number, both over x."""
        from ..drawings.fit import draw_curve_fit, draw_predicted_against_true

        x = targets["x"].reshape(len(targets["x"]), -1)
        y, predicted = targets["y"], predictions["y"]
        drawn: dict[str, Figure | str] = {
            "against": draw_predicted_against_true(predicted, y, "Prediction against truth")
        }
        if x.shape[1] == 1:
            drawn["fit"] = draw_curve_fit(x[:, 0], y, predicted, "Prediction over x")
        return drawn


def input_size(spec: Spec) -> int:
    """Return the number D of values per x; Refusal if the columns x and y do not have usable shapes."""
    spec.check_columns("Regression", "x", "y")
    x, y = spec.columns["x"], spec.columns["y"]
    if y or None in x or len(x) > 1:
        raise Refusal(f"task: Regression needs x of shape () or (D,) and y of shape (), not {x} and {y}")
    return math.prod(side or 1 for side in x)
