"""The contract. The engine owns the loop; a task owns one step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .update import Update

Loss = Callable[["State", "Shard"], tuple[Tensor, dict[str, Tensor]]]
Batch = dict[str, Any]  # column -> Tensor [B, ...] (ragged: list of B arrays); "row" -> the rows' numbers int64 [B]


@dataclass
class State:
    """Everything that is saved, and nothing else. Learning rates are pure functions of `step`: nothing to save."""

    modules: dict[str, nn.Module] = field(default_factory=dict)  # {"net"}; {"generator", "discriminator"}; {}
    averages: dict[str, nn.Module] = field(default_factory=dict)  # moving averages of modules, kept by the engine
    optimizers: dict[str, Optimizer] = field(default_factory=dict)  # by the name of the module they move
    tables: dict[str, np.ndarray] = field(default_factory=dict)  # counts, SVM weights, spectra
    carry: dict[int, dict[str, Tensor]] = field(default_factory=dict)  # shard -> what it keeps within an epoch
    step: int = 0


@dataclass
class Shard:
    """One fixed slice of a step's global batch, with a random stream of its own keyed by (seed, step, shard)."""

    batch: Batch
    generator: torch.Generator  # on the batch's device; the global stream (dropout) is keyed in the same way
    index: int
    # what the previous step of this epoch left for this shard, [B, ...]; empty at the epoch's first step
    carry: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Spec:
    """What the data look like: a task builds its model from this."""

    columns: dict[str, tuple[int | None, ...]]  # column -> shape of one example, e.g. {"image": (16, 16, 1)}
    classes: tuple[str, ...]
    statistics: dict[str, Any]  # of the training split: {"mean": [C], "std": [C], ...}, written by the augment stage


class Task:
    """One kind of problem. Subclass once; constructors take plain arguments; models arrive as factories."""

    monitor: ClassVar[tuple[str, str]] = ("accuracy", "max")  # the score that search, early stopping and gates watch
    inputs: ClassVar[tuple[str, ...]] = ("image",)  # columns that `predict` needs of a served model; (): none is served
    targets: ClassVar[tuple[str, ...]] = ("label",)  # columns that `score` needs
    requires: ClassVar[tuple[str, ...]] = ()  # packages that a served model needs beside the usual ones
    album: ClassVar[bool] = False  # whether `draw` is asked after every evaluation, or after the last one alone

    def setup(self, spec: Spec) -> State:
        """Builds modules and optimisers; the global random stream is seeded before the call."""
        raise NotImplementedError

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """One shard -> mean loss (0-d) and 0-d metrics, both averaged over shards by their sizes."""
        raise NotImplementedError

    def step(self, state: State, update: Update) -> dict[str, Tensor]:
        """One optimisation step. `update(module, loss)` does shards -> gradients -> fixed tree -> optimiser."""
        return update("net", self.loss)

    def finish(self, state: State, over: Callable[[Callable[[Batch], Any]], list[Any]]) -> None:
        """Once, after the last step: fit what is not trained by gradient steps.

        `over(function)` -> what `function` gives for each batch of the training split, in order; workers share it.
        """

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Decoded predictions for one batch, in evaluation mode: {"label": [B], ...}, one row an example."""
        raise NotImplementedError

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Metrics over a whole split, examples in their order."""
        raise NotImplementedError

    def outcomes(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> np.ndarray | None:
        """What the monitored score is the mean of, one number an example [N], for its interval; None: no such thing."""

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """Name -> what a person would rather look at than read (`components.drawings.figures`), or a sample of text."""
        return {}

    def tags(self, state: State, scores: dict[str, float]) -> dict[str, str]:
        """Facts for the run's page that are no numbers: a verdict, an alarm, where features came from."""
        return {}
