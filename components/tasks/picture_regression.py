"""Regression from pictures: one number per picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from ..errors import Refusal
from ..metrics.regression import regression_scores
from ..optimizers import adam
from ..recipes.ranges import Count, NonNegative
from ..training.task import Batch, Shard, Spec, State, Task, Update
from .classification import Classification

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..augment.copies import Transform


class PictureRegression(Task):
    """Prediction of column y [B] from pictures.

    The network predicts (y - mean) / deviation, both of the training split, so that the unit of y does not matter.
    criterion: "mse" estimates the mean of y, "mae" its median. model, augment, start, body_rate, resize: as in
    `tasks.classification.Classification`.
    """

    monitor: ClassVar[tuple[str, str]] = ("mae", "min")
    targets: ClassVar[tuple[str, ...]] = ("y",)

    def __init__(
        self,
        model: Callable[..., nn.Module],
        optimizer: Callable[..., Optimizer] = adam,
        criterion: Literal["mse", "mae"] = "mse",
        augment: list[Callable[..., Transform]] | None = None,
        start: str | None = None,
        body_rate: NonNegative = 1.0,
        resize: Count | None = None,
    ) -> None:
        self.pictures = Classification(model, optimizer, augment, start=start, body_rate=body_rate, resize=resize)
        self.criterion = criterion
        self.mean = 0.0
        self.deviation = 1.0

    def setup(self, spec: Spec) -> State:
        """Build the network with one output."""
        if spec.columns.get("y", (0,)) != ():
            raise Refusal(
                f"task: PictureRegression needs a column 'y' of one number, but the data have {', '.join(spec.columns)}"
            )
        moments = spec.statistics["moments"]["y"]
        (self.mean,) = moments["mean"]
        (self.deviation,) = moments["std"]
        return self.pictures.setup(replace(spec, classes=("y",)))

    def step(self, state: State, update: Update) -> dict[str, Tensor]:
        """Update the network; a frozen body keeps its moving averages."""
        self.pictures.hold_frozen(state)
        return update("net", self.loss)

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the criterion's mean in units of the deviation, and the mean absolute error in those of y."""
        standardized = state.modules["net"](self.pictures.pixels(shard.batch, shard.generator)).float().squeeze(1)
        y = (shard.batch["y"].float() - self.mean) / self.deviation
        error = F.l1_loss(standardized, y)
        loss = F.mse_loss(standardized, y) if self.criterion == "mse" else error
        return loss, {"mae": error.detach() * self.deviation}

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return {"y": [B]}."""
        standardized = state.modules["net"](self.pictures.pixels(batch)).float().squeeze(1)
        return {"y": standardized * self.deviation + self.mean}

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return mae, mse and r2; r2 is at most 0 for a constant answer."""
        return regression_scores(predictions["y"], targets["y"])

    def outcomes(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> np.ndarray:
        """Return the absolute errors [N]."""
        return np.abs(predictions["y"].astype(np.float64) - targets["y"])

    def constant(self, train: dict[str, Any], count: int) -> dict[str, np.ndarray]:
        """Return the median of the training values."""
        return {"y": np.full(count, np.median(train["y"].astype(np.float64)))}

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """Draw the prediction against the truth."""
        from ..drawings.fit import draw_predicted_against_true

        drawing = draw_predicted_against_true(predictions["y"], targets["y"], "Prediction against truth")
        return {"against": drawing}
