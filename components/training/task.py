"""The contract: the engine owns the loop, and a task owns one step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import Refusal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Loss = Callable[["State", "Shard"], tuple[Tensor, dict[str, Tensor]]]
Batch = dict[str, Any]  # column -> Tensor [B, ...] (ragged: list of B arrays); "row" -> row numbers int64 [B]


@dataclass
class State:
    """Everything that is saved, and nothing else. Learning rates are pure functions of `step` and need no saving."""

    modules: dict[str, nn.Module] = field(default_factory=dict)  # {"net"}; {"generator", "discriminator"}; {}
    averages: dict[str, nn.Module] = field(default_factory=dict)  # moving averages of modules, updated by the engine
    optimizers: dict[str, Optimizer] = field(default_factory=dict)  # under the name of the module each optimises
    tables: dict[str, np.ndarray] = field(default_factory=dict)  # counts, SVM weights, spectra
    carry: dict[int, dict[str, Tensor]] = field(default_factory=dict)  # shard -> its hidden state within an epoch
    tokenizers: dict[str, str] = field(default_factory=dict)  # of a task that has its own; see `Spec`
    arguments: dict[str, Any] = field(default_factory=dict)  # of the task, which `setup` read from elsewhere
    step: int = 0


@dataclass
class Shard:
    """A fixed slice of a step's global batch, with a random stream keyed by (seed, step, shard)."""

    batch: Batch
    generator: torch.Generator  # on the batch's device; the global stream (dropout) is keyed in the same way
    index: int
    # what the previous step of this epoch stored for this shard, [B, ...]; empty in the first step of an epoch
    carry: dict[str, Tensor] = field(default_factory=dict)
    # the number of tokens, boxes or the like that the loss is a mean over; set by the loss, None for examples
    weight: Tensor | int | None = None
    # the position of its first example in the step's batch, which shards and microbatches cut into contiguous slices
    first: int = 0


@dataclass(frozen=True)
class Spec:
    """The shapes, classes and statistics of the data, from which a task builds its model."""

    columns: dict[str, tuple[int | None, ...]]  # column -> shape of one example, e.g. {"image": (16, 16, 1)}
    classes: tuple[str, ...]
    statistics: dict[str, Any]  # of the training split: {"mean": [C], "std": [C], ...}, written by the augment stage
    tokenizers: dict[str, str] = field(default_factory=dict)  # column -> content of its tokenizer.json

    def check_columns(self, task: str, *names: str, remedy: str = "change data") -> None:
        """Raise Refusal if the data lack a column that the task needs; task, remedy: for the message."""
        for name in names:
            if name not in self.columns:
                columns = ", ".join(self.columns)
                raise Refusal(f"task: {task} needs a column '{name}', but the data have {columns}; {remedy}")


class Update(Protocol):
    """The work on the shards of one step, done by all workers together. Each call draws its own random numbers."""

    seed: int
    batches: list[Batch]  # of this worker's shards
    weights: list[float]  # of this worker's shards: their shares of the global batch
    examples: int  # of the global batch

    def __call__(self, name: str, loss: Loss) -> dict[str, Tensor]:
        """Update `state.modules[name]` by one optimiser step; return the loss and metrics averaged over all shards."""

    def mean(self, function: Callable[[State, Shard], list[Tensor]]) -> list[Tensor]:
        """Return what `function` returns, averaged over all shards by their sizes or by `shard.weight`."""

    def tally(self, function: Callable[[State, Shard], dict[str, np.ndarray]], merge: Callable = ...) -> None:
        """Merge what `function` returns for each shard into `state.tables`, in shard order (default: add)."""


class Task:
    """One kind of problem. Subclass once; constructors take plain arguments; models arrive as factories."""

    monitor: ClassVar[tuple[str, str]] = ("accuracy", "max")  # the score that search, early stopping and gates compare
    inputs: ClassVar[tuple[str, ...]] = ("image",)  # columns that `predict` needs of a served model; (): not servable
    any_size: ClassVar[bool] = False  # whether a served model takes pictures of any height and width
    targets: ClassVar[tuple[str, ...]] = ("label",)  # columns that `score` needs
    extras: ClassVar[tuple[str, ...]] = ()  # columns that `score` uses where the data have them
    requires: ClassVar[tuple[str, ...]] = ()  # packages that a served model needs in addition to the usual ones
    sequential: ClassVar[bool] = False  # whether `predict` reads consecutive rows of a batch as one sequence
    lengths: ClassVar[tuple[str, ...]] = ()  # columns by whose lengths `fit.order: grouped` groups, the decisive first
    full_batch: ClassVar[bool] = False  # whether each step must cover all training rows (`fit.batch: all`)
    album: ClassVar[bool] = False  # whether `draw` is called after every evaluation, not only after the last one

    def check_data(self, spec: Spec) -> None:
        """Raise Refusal if the data lack a column that `score` needs; called once the data are prepared."""
        spec.check_columns(type(self).__name__, *self.targets)

    def setup(self, spec: Spec) -> State:
        """Build modules and optimisers; the global random stream is seeded before the call."""
        raise NotImplementedError

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean loss (0-d) and 0-d metrics of one shard.

        Shards and microbatches are averaged by their numbers of examples. A loss that is a mean over anything else sets
        `shard.weight` to the number of its terms; a mean over no terms is 0.
        """
        raise NotImplementedError

    def objective(self) -> str | None:
        """Return the score that measures the same quantity as the training loss; None if no score does."""
        return "loss"

    def step(self, state: State, update: Update) -> dict[str, Tensor]:
        """Do one optimisation step. `update(module, loss)`: shards -> gradients -> fixed tree -> optimiser."""
        return update("net", self.loss)

    def finish(self, state: State, over: Callable[[Callable[[Batch], Any]], list[Any]]) -> None:
        """Fit what gradient steps do not train; called once, after the last step.

        `over(function)` returns the result of `function` for each batch of the training split, in order; the workers
        share the batches.
        """

    def predict(self, state: State, batch: Batch) -> dict[str, Any]:
        """Return decoded predictions for one batch in evaluation mode: {"label": [B], ...}, one row per example.

        They are tensors, or arrays of texts.
        """
        raise NotImplementedError

    def serving_inputs(self, batch: Batch) -> dict[str, Any]:
        """Return the columns `inputs` of a served model for examples of the data: tensors, or lists of texts."""
        return {name: batch[name] for name in self.inputs}

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return the metrics of a full split, whose examples are in order."""
        raise NotImplementedError

    def outcomes(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> np.ndarray | None:
        """Return the per-example values [N] whose mean is the monitored score, or None if it is not a mean."""

    def constant(self, train: dict[str, Any], count: int) -> dict[str, np.ndarray] | None:
        """Return `count` rows of predictions that ignore their inputs, the best such answer; None if there is none.

        train: the target columns of the training split. The call may come before `setup`.
        """
        return None

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """Return figures (`components.drawings.figures`) and samples of text by name."""
        return {}

    def tags(self, state: State, scores: dict[str, float]) -> dict[str, str]:
        """Return facts for the run's page that are not numbers: a verdict, an alarm, the source of the features."""
        return {}
