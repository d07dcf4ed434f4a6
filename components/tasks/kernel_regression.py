"""Kernel regression: the training examples are the model, and attention says which of them count (notes: attention).

A step learns its examples by heart: they are the keys (x) and values (y) from then on. Then each of them is predicted
from all the others that are known, never from itself: the loss, where the kernel has a parameter that learns from it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import Refusal
from ..models.nadaraya_watson import NadarayaWatson
from ..optimizers import adam
from ..training.task import Batch, Shard, Spec, State, Task, Update
from .regression import Regression, inputs

if TYPE_CHECKING:
    from matplotlib.figure import Figure


KNOWN = "examples"  # float64 [N, 2 + D], by row: the row's number, y, x


class KernelRegression(Task):
    """Predicts the column y [N] from the column x [N] or [N, D] by attention to the training examples.

    model: factory of `models.nadaraya_watson.NadarayaWatson`. The optimiser is at work where that one learns.
    """

    monitor: ClassVar[tuple[str, str]] = Regression.monitor
    inputs: ClassVar[tuple[str, ...]] = Regression.inputs
    targets: ClassVar[tuple[str, ...]] = Regression.targets

    def __init__(self, model: Callable[..., NadarayaWatson], optimizer: Callable = adam) -> None:
        self.model, self.optimizer = model, optimizer
        self.regression = Regression(model)  # for what is measured and drawn

    def setup(self, spec: Spec) -> State:
        net = self.model()
        learns = any(p.requires_grad for p in net.parameters())
        optimizers = {"net": self.optimizer(net.parameters())} if learns else {}
        return State({"net": net}, optimizers=optimizers, tables={KNOWN: np.zeros((0, 2 + inputs(spec)))})

    def step(self, state: State, update: Update) -> dict[str, Tensor]:
        update.tally(lambda state, shard: {KNOWN: learned(shard.batch)}, merged)
        if len(state.tables[KNOWN]) < 2:
            raise Refusal("fit.batch: an example is predicted from others; set it to 2 or more")
        if "net" in state.optimizers:
            return update("net", self.loss)
        (loss,) = update.mean(lambda state, shard: [self.loss(state, shard)[0]])
        return {"left_out": loss}  # nothing makes it fall: it tells how good pooling is among the examples known

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """x [B] or [B, D], y [B], row [B] -> mean squared error, each example predicted without itself."""
        rows, y = torch.from_numpy(state.tables[KNOWN][:, 0].astype(np.int64)), shard.batch["y"].float()
        hidden = shard.batch["row"][:, None] == rows.to(y.device)
        return F.mse_loss(self.predicted(state, shard.batch["x"], hidden), y), {}

    def finish(self, state: State, over: Callable[[Callable[[Batch], Any]], list[Any]]) -> None:
        """What no batch has brought, for incomplete ones are dropped, is known too."""
        state.tables[KNOWN] = reduce(merged, over(learned), state.tables[KNOWN])

    def predicted(self, state: State, x: Tensor, hidden: Tensor | None = None) -> Tensor:
        """x [B] or [B, D] -> [B]; 0 as long as nothing is known."""
        net, queries = state.modules["net"], x.reshape(len(x), -1).float()
        return net(queries, keys(state, x.device), values(state, x.device), hidden).float()

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """{"y": [B]}, from all training examples."""
        return {"y": self.predicted(state, batch["x"])}

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        return self.regression.score(predictions, targets)

    def outcomes(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> np.ndarray:
        return self.regression.outcomes(predictions, targets)

    @torch.no_grad()
    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """A regression's pictures; where x is one number, the attention weights as well, both sides sorted by x."""
        drawn = self.regression.draw(state, predictions, targets)
        if "fit" in drawn:
            from ..drawings.attention import draw_kernel_weights

            net, known = state.modules["net"], np.sort(state.tables[KNOWN][:, 2:], axis=0)
            device = next((p.device for p in net.parameters()), None)
            queries = np.sort(targets["x"].reshape(-1, 1), axis=0)
            sides = (torch.from_numpy(side).float().to(device) for side in (queries, known))
            weights = net.attention(*sides).cpu().numpy()  # type: ignore[operator]
            drawn["attention"] = draw_kernel_weights(weights, queries[:, 0], known[:, 0], "Attention weights")
        return drawn

    def tags(self, state: State, scores: dict[str, float]) -> dict[str, str]:
        """The width that was learned."""
        if "net" not in state.optimizers:
            return {}
        w = next(state.modules["net"].parameters()).abs().item()
        return {"kernel_width": f"{1 / w:.3g}" if w else "unbounded"}


def learned(batch: Batch) -> np.ndarray:
    """A table of the batch's examples."""
    columns = [batch[name].cpu().numpy().reshape(len(batch["row"]), -1) for name in ("row", "y", "x")]
    return merged(np.concatenate(columns, axis=1, dtype=np.float64))


def merged(*tables: np.ndarray) -> np.ndarray:
    """Each example of any table once, in the order of their rows."""
    both = np.concatenate(tables)
    return both[np.unique(both[:, 0], return_index=True)[1]]


def keys(state: State, device: torch.device) -> Tensor:
    """[N, D]."""
    return torch.from_numpy(state.tables[KNOWN][:, 2:]).float().to(device)


def values(state: State, device: torch.device) -> Tensor:
    """[N]."""
    return torch.from_numpy(state.tables[KNOWN][:, 1]).float().to(device)
