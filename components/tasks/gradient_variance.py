"""Variance of a minibatch's gradient at one point (notes: gradient descent, stochastic and with minibatches)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ..training.task import Batch, Shard, Spec, State, Task, Update
from .classification import Classification, refuse_noisy_layers
from .row_facts import read_facts, repeat_facts, zero_facts

FACTS = ("variance", "gradient_norm")


class GradientVariance(Task):
    """Gradients of a classifier at its initial weights, one per step; nothing is updated.

    The batches of an epoch are drawn without replacement, so B of N examples have the variance (N - B) / (N - 1) / B
    times that of one example, and 0 if B is N. The variance is the trace of the covariance matrix. It takes several
    epochs: the few batches of a single one exclude each other, and their sample variance is N / (N - B) times as large.

    model: as for Classification, without batch normalisation or dropout.
    """

    monitor: ClassVar[tuple[str, str]] = ("variance", "min")
    inputs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, model: Callable[..., nn.Module]) -> None:
        self.classification = Classification(model)

    def setup(self, spec: Spec) -> State:
        """Build the classifier; Refusal if its loss is not the same at the same weights."""
        state = self.classification.setup(spec)
        refuse_noisy_layers(state.modules["net"], "GradientVariance")
        return state

    def step(self, state: State, update: Update) -> dict[str, Tensor]:
        """Add a batch's gradient to the running mean and deviation (Welford 1962); return {loss, gradient_norm}."""
        parameters = list(state.modules["net"].parameters())

        def differentiate(state: State, shard: Shard) -> list[Tensor]:
            loss = self.classification.loss(state, shard)[0]
            gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
            return [torch.cat([g.reshape(-1) for g in gradients]), loss.detach()[None]]

        flat, loss = update.mean(differentiate)
        gradient = flat.double().cpu().numpy()
        tables = state.tables
        mean, squares = tables.get("mean", np.zeros_like(gradient)), tables.get("squares", np.zeros(2))
        count = squares[1] + 1
        difference = gradient - mean
        tables["mean"] = mean + difference / count
        tables["squares"] = np.array([squares[0] + difference @ (gradient - tables["mean"]), count])
        return {"loss": loss[0], "gradient_norm": torch.tensor(float(np.linalg.norm(gradient)))}

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return Classification's predictions, with the variance and the norm of the mean gradient in each row."""
        predictions = self.classification.predict(state, batch)
        squares, count = state.tables.get("squares", (0.0, 1.0))
        facts = {
            "variance": squares / max(count - 1, 1),
            "gradient_norm": float(np.linalg.norm(state.tables.get("mean", 0.0))),
        }
        return repeat_facts(predictions, facts)

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return variance and gradient_norm, and Classification's scores of the initial weights."""
        return read_facts(predictions, FACTS) | self.classification.score(predictions, targets)

    def constant(self, train: dict[str, Any], count: int) -> dict[str, np.ndarray]:
        """Return Classification's constant answer, with zeros for the facts about the gradients."""
        return self.classification.constant(train, count) | zero_facts(FACTS, count)
