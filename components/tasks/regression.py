"""Regression: one number is predicted from others (notes: MSE, MAE)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import Refusal
from ..metrics.regression import regression_scores
from ..optimizers import adam
from ..recipes.ranges import Positive
from ..training.task import Batch, Shard, Spec, State, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Regression(Task):
    """Predicts the column y [N] from the column x [N] or [N, D].

    model: factory called with (channels = D, size = (1, 1), classes = 1), as the networks for pictures are: an x is a
    picture of one pixel. criterion: mse finds the mean of y at x, mae its median, huber is squared up to errors of
    `delta` (1 unless given) and absolute beyond (Huber 1964).
    """

    monitor: ClassVar[tuple[str, str]] = ("mse", "min")
    inputs: ClassVar[tuple[str, ...]] = ("x",)
    targets: ClassVar[tuple[str, ...]] = ("x", "y")

    def __init__(
        self,
        model: Callable[..., nn.Module],
        optimizer: Callable = adam,
        criterion: Literal["mse", "mae", "huber"] = "mse",
        delta: Positive | None = None,
    ) -> None:
        if delta is not None and criterion != "huber":
            raise Refusal(f"task.delta: is for criterion: huber; leave it out with criterion: {criterion}")
        self.model, self.optimizer, self.criterion = model, optimizer, criterion
        self.delta = 1.0 if delta is None else delta

    def setup(self, spec: Spec) -> State:
        net = self.model(channels=inputs(spec), size=(1, 1), classes=1)
        return State(modules={"net": net}, optimizers={"net": self.optimizer(net.parameters())})

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """x [B] or [B, D], y [B] -> what `criterion` says, the mean absolute error."""
        predicted, y = self.predicted(state, shard.batch["x"]), shard.batch["y"].float()
        return self.compared(predicted, y), {"mae": F.l1_loss(predicted.detach(), y)}

    def compared(self, predicted: Tensor, y: Tensor) -> Tensor:
        """Both [B] -> mean loss []."""
        if self.criterion == "huber":
            return F.huber_loss(predicted, y, delta=self.delta)
        return F.mse_loss(predicted, y) if self.criterion == "mse" else F.l1_loss(predicted, y)

    def predicted(self, state: State, x: Tensor) -> Tensor:
        """x [B] or [B, D] -> [B]."""
        return state.modules["net"](x.reshape(len(x), -1, 1, 1).float()).float().squeeze(1)

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """{"y": [B]}."""
        return {"y": self.predicted(state, batch["x"])}

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        return regression_scores(predictions["y"], targets["y"])

    def outcomes(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> np.ndarray:
        """The squared errors."""
        return np.square(predictions["y"].astype(np.float64) - targets["y"])

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """Prediction against truth; where x is one number, both over x as well."""
        from ..drawings.fit import draw_curve_fit, draw_predicted_against_true

        x, y, said = targets["x"].reshape(len(targets["x"]), -1), targets["y"], predictions["y"]
        drawn: dict[str, Figure | str] = {"against": draw_predicted_against_true(said, y, "Prediction against truth")}
        if x.shape[1] == 1:
            drawn["fit"] = draw_curve_fit(x[:, 0], y, said, "Prediction over x")
        return drawn


def inputs(spec: Spec) -> int:
    """How many numbers an x is: D."""
    for name in ("x", "y"):
        if name not in spec.columns:
            raise Refusal(f"task: regression needs columns 'x' and 'y', the data have: {', '.join(spec.columns)}")
    x, y = spec.columns["x"], spec.columns["y"]
    if y or None in x or len(x) > 1:
        raise Refusal(f"task: regression takes an x of shape () or (D,) and a y of shape (), not {x} and {y}")
    return math.prod(side or 1 for side in x)
