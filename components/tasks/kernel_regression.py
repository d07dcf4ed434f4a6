"""Kernel regression: the training examples are the model, and attention weights them (notes: attention).

A step first stores its examples as keys (x) and values (y). It then predicts each of them from all other stored
examples, never from itself. The error is the loss if the kernel has a parameter to train.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from ..errors import Refusal
from ..models.nadaraya_watson import NadarayaWatson
from ..optimizers import adam
from ..training.task import Batch, Shard, Spec, State, Task, Update
from .regression import Regression, input_size

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# The state's table of stored examples: float64 [N, 2 + D], ordered by row number; columns: row number, y, x.
EXAMPLES = "examples"


class KernelRegression(Task):
    """Prediction of the column y [N] from the column x [N] or [N, D] by attention to the training examples.

    model: factory of `models.nadaraya_watson.NadarayaWatson`. The optimiser is used only if the kernel is trained.
    """

    monitor: ClassVar[tuple[str, str]] = Regression.monitor
    inputs: ClassVar[tuple[str, ...]] = Regression.inputs
    targets: ClassVar[tuple[str, ...]] = Regression.targets

    def __init__(self, model: Callable[..., NadarayaWatson], optimizer: Callable[..., Optimizer] = adam) -> None:
        self.model = model
        self.optimizer = optimizer
        # Supplies the scores, the outcomes and the drawings.
        self.regression = Regression(model)

    def setup(self, spec: Spec) -> State:
        """Build the kernel, with an optimiser if it has parameters to train, and an empty table of examples."""
        net = self.model()
        trainable = any(p.requires_grad for p in net.parameters())
        optimizers = {"net": self.optimizer(net.parameters())} if trainable else {}
        return State({"net": net}, optimizers=optimizers, tables={EXAMPLES: np.zeros((0, 2 + input_size(spec)))})

    def objective(self) -> str | None:
        """Return "mse": the loss is that of predictions from the other examples."""
        return "mse"

    def step(self, state: State, update: Update) -> dict[str, Tensor]:
        """Store the batch's examples, then train the kernel or, if it has no parameters, measure its loss."""
        update.tally(lambda state, shard: {EXAMPLES: example_table(shard.batch)}, merge_tables)
        if len(state.tables[EXAMPLES]) < 2:
            raise Refusal("fit.batch: each example is predicted from other examples; set it to 2 or more")
        if "net" in state.optimizers:
            return update("net", self.loss)
        # Nothing makes this loss fall: it measures how well the stored examples predict each other.
        (loss,) = update.mean(lambda state, shard: [self.loss(state, shard)[0]])
        return {"left_out": loss}

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean squared error of the leave-one-out predictions for x [B] or [B, D], y [B] and row [B]."""
        y = shard.batch["y"].float()
        stored_rows = torch.from_numpy(state.tables[EXAMPLES][:, 0].astype(np.int64)).to(y.device)
        hidden = shard.batch["row"][:, None] == stored_rows
        return F.mse_loss(self.regress(state, shard.batch["x"], hidden), y), {}

    def finish(self, state: State, over: Callable[[Callable[[Batch], Any]], list[Any]]) -> None:
        """Store the remaining training examples: those of incomplete batches, which no step has seen."""
        state.tables[EXAMPLES] = reduce(merge_tables, over(example_table), state.tables[EXAMPLES])

    def regress(self, state: State, x: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Return the predictions [B] for x [B] or [B, D]; 0 while no example is stored.

        hidden: bool [B, N], the stored examples that each prediction must not use.
        """
        queries = x.reshape(len(x), -1).float()
        examples = torch.from_numpy(state.tables[EXAMPLES])
        keys = examples[:, 2:].float().to(x.device)
        values = examples[:, 1].float().to(x.device)
        return state.modules["net"](queries, keys, values, hidden).float()

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return {"y": [B]}, predicted from all training examples."""
        return {"y": self.regress(state, batch["x"])}

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return mse, mae and r2."""
        return self.regression.score(predictions, targets)

    def outcomes(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> np.ndarray:
        """Return the squared errors [N]."""
        return self.regression.outcomes(predictions, targets)

    def constant(self, train: dict[str, Any], count: int) -> dict[str, np.ndarray]:
        """Return the mean of the training values."""
        return self.regression.constant(train, count)

    @torch.no_grad()
    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """Draw a regression's figures and, if x is a single number, the attention weights sorted by x on both axes."""
        drawn = self.regression.draw(state, predictions, targets)
        if "fit" in drawn:
            from ..drawings.attention import draw_kernel_weights

            net = state.modules["net"]
            keys = np.sort(state.tables[EXAMPLES][:, 2:], axis=0)
            device = next((p.device for p in net.parameters()), None)
            queries = np.sort(targets["x"].reshape(-1, 1), axis=0)
            sides = (torch.from_numpy(side).float().to(device) for side in (queries, keys))
            weights = net.attention(*sides).cpu().numpy()  # type: ignore[operator]
            drawn["attention"] = draw_kernel_weights(weights, queries[:, 0], keys[:, 0], "Attention weights")
        return drawn

    def tags(self, state: State, scores: dict[str, float]) -> dict[str, str]:
        """Return the trained width of the kernel."""
        if "net" not in state.optimizers:
            return {}
        inverse_width = next(state.modules["net"].parameters()).abs().item()
        return {"kernel_width": f"{1 / inverse_width:.3g}" if inverse_width else "unbounded"}


def example_table(batch: Batch) -> np.ndarray:
    """Return the batch's examples as a table like EXAMPLES."""
    columns = [batch[name].cpu().numpy().reshape(len(batch["row"]), -1) for name in ("row", "y", "x")]
    return merge_tables(np.concatenate(columns, axis=1, dtype=np.float64))


def merge_tables(*tables: np.ndarray) -> np.ndarray:
    """Return each example of any table once, ordered by row number."""
    examples = np.concatenate(tables)
    return examples[np.unique(examples[:, 0], return_index=True)[1]]
