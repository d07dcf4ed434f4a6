"""Convex or not: the loss on the line between two trained networks (notes: convexity; Goodfellow et al. 2015).

A convex loss lies below the line that joins its values at two points. Steps have two phases: `descend` steps train two
networks that start from different weights; then `points` steps each measure the loss at one point between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..optimizers import sgd
from ..recipes.ranges import Count, NonNegative
from ..training.task import Batch, Shard, Spec, State, Task, Update
from .classification import Classification, refuse_noisy_layers
from .row_facts import read_facts, repeat_facts, zero_facts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENDS = ("first", "second")
FACTS = ("barrier", "end")


class LineBetween(Task):
    """Training of two classifiers on the same data, and the loss on the straight line from one to the other.

    model, optimizer: as for Classification, without batch normalisation or dropout. l2: weight of half the squared norm
    of the weights in the loss. descend, points: numbers of steps; set `fit.epochs` to their sum and `fit.batch` to all.
    """

    monitor: ClassVar[tuple[str, str]] = ("barrier", "min")
    inputs: ClassVar[tuple[str, ...]] = ()
    full_batch: ClassVar[bool] = True

    def __init__(
        self,
        model: Callable[..., nn.Module],
        optimizer: Callable[..., Optimizer] = sgd,
        descend: Count = 100,
        points: Count = 21,
        l2: NonNegative = 0.0,
    ) -> None:
        self.classification = Classification(model, optimizer)
        self.descend = descend
        self.points = points
        self.l2 = l2

    def setup(self, spec: Spec) -> State:
        """Build two networks, whose weights are drawn one after the other, and an optimiser for each.

        Refusal if their loss is not the same at the same weights.
        """
        state = State()
        for name in ENDS:
            built = self.classification.setup(spec)
            refuse_noisy_layers(built.modules["net"], "LineBetween")
            state.modules[name], state.optimizers[name] = built.modules["net"], built.optimizers["net"]
        return state

    def objective(self) -> str | None:
        """Return None: two losses are trained."""
        return None

    def step(self, state: State, update: Update) -> dict[str, Tensor]:
        """Train both networks, {first_loss, second_loss}, or measure the loss at the next point, {line_loss}.

        Steps after the last point change nothing.
        """
        if state.step < self.descend:
            metrics = {}
            for name in ENDS:
                metrics[f"{name}_loss"] = update(name, partial(self._loss, name=name))["loss"]
            return metrics
        line = state.tables.get("line", np.zeros(0))
        if len(line) == self.points:
            return {"line_loss": torch.tensor(float(line[-1]))}
        share = len(line) / max(1, self.points - 1)
        with blended(state.modules["first"], state.modules["second"], share), torch.no_grad():
            (loss,) = update.mean(lambda state, shard: [self._loss(state, shard, "first")[0].detach()])
        state.tables["line"] = np.append(line, float(loss))
        return {"line_loss": loss}

    def _loss(self, state: State, shard: Shard, name: str) -> tuple[Tensor, dict[str, Tensor]]:
        """Return a network's cross-entropy with the penalty on its weights."""
        loss = self.classification.loss(State({"net": state.modules[name]}), shard)[0]
        if self.l2:
            loss = loss + self.l2 / 2 * torch.stack([p.square().sum() for p in state.modules[name].parameters()]).sum()
        return loss, {}

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return Classification's predictions of the first network, and the barrier repeated in each row."""
        predictions = self.classification.predict(State({"net": state.modules["first"]}), batch)
        line = state.tables.get("line", np.zeros(1))
        return repeat_facts(predictions, {"barrier": barrier(line), "end": float(max(line[0], line[-1]))})

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return Classification's scores of the first network, the barrier, and the greater loss of both ends."""
        return {**self.classification.score(predictions, targets), **read_facts(predictions, FACTS)}

    def constant(self, train: dict[str, Any], count: int) -> dict[str, np.ndarray]:
        """Return Classification's constant answer, with zeros for the facts about the line."""
        return self.classification.constant(train, count) | zero_facts(FACTS, count)

    def tags(self, state: State, scores: dict[str, float]) -> dict[str, str]:
        """Return whether the loss rises between the networks."""
        points = len(state.tables.get("line", ()))
        if points < self.points:
            return {"line": f"none: {points} of {self.points} points are measured; raise fit.epochs"}
        rises = scores["barrier"] > 0
        return {"line": f"{'a barrier' if rises else 'no barrier'}: {scores['barrier']:.4g} above the straight line"}

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """Draw the loss along the line, and the straight line that a convex loss must not exceed."""
        from ..drawings import figures

        line = state.tables.get("line", np.zeros(0))
        if len(line) < 2:
            return {}
        share = np.linspace(0, 1, len(line))
        curves = {"loss": [(share, line)], "between its ends": [(share, chord(line))]}
        return {"line": figures.draw_curves(curves, "Loss from one network to the other", "share of the way")}


def chord(line: np.ndarray) -> np.ndarray:
    """Return the straight line [N] between the ends of the losses `line` [N]."""
    return np.linspace(line[0], line[-1], len(line))


def barrier(line: np.ndarray) -> float:
    """Return how far the losses `line` [N] rise above the straight line between their ends; 0 if they never do."""
    return float(np.max(line - chord(line)))


@contextmanager
def blended(net: nn.Module, other: nn.Module, share: float) -> Iterator[None]:
    """Move `net`'s weights to (1 - share) * its own + share * those of `other` while the block runs."""
    pairs = list(zip(net.parameters(), other.parameters(), strict=True))
    originals = [p.detach().clone() for p, _ in pairs]
    with torch.no_grad():
        for parameter, target in pairs:
            parameter.lerp_(target, share)
    try:
        yield
    finally:
        with torch.no_grad():
            for (parameter, _), value in zip(pairs, originals, strict=True):
                parameter.copy_(value)
