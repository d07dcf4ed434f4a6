"""Check the minimum of each criterion by independent methods, the drawings and the refusals."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize

from components.data.sine import Sine
from components.errors import Refusal
from components.models.mlp import MLP
from components.optimizers import sgd
from components.schedules import cosine
from components.storage.dataset import prepare_dataset
from components.storage.feed import Feed
from components.storage.store import Store
from components.tasks.regression import Regression
from components.training import engine
from components.training.task import Shard, Spec

LINEAR = partial(MLP, hidden=[], dropout=0.0)
PLANE = Spec({"x": (3,), "y": ()}, (), {"count": 40})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("sine")
    prepare_dataset(Sine(train=203, validation=60, test=60, tau=3, period=30.0, noise=0.3), folder)
    return Store(folder)


def fitted(store: Store, **options: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (trained weights and bias, design matrix, y)."""
    train = Feed(store.split("train"))
    task = Regression(LINEAR, partial(sgd, lr=0.1, momentum=0.9), **options)
    rates: Callable[[int, int], float] = partial(cosine, floor=0.0)
    net = engine.fit(task, PLANE, train, epochs=300, batch=len(train), schedule=rates).state.modules["net"]
    head = net.get_submodule("head")
    weights = torch.cat([head.weight[0], head.bias]).detach().numpy()  # type: ignore[list-item]
    return weights, np.column_stack([train.column("x"), np.ones(len(train))]).astype(np.float64), train.column("y")


def test_mse_reaches_the_closed_form(store: Store) -> None:
    trained, matrix, y = fitted(store)
    assert trained == pytest.approx(np.linalg.lstsq(matrix, y, rcond=None)[0], abs=1e-4)


@pytest.mark.parametrize("criterion", ["mae", "huber"])
def test_other_criteria_reach_their_own_minimum(store: Store, criterion: str) -> None:
    """Compare with scipy's minimum of the same sum: linear programming for MAE, BFGS for Huber."""
    delta = {"delta": 0.2} if criterion == "huber" else {}
    trained, matrix, y = fitted(store, criterion=criterion, **delta)

    def loss(weights: np.ndarray) -> float:
        error = np.abs(matrix @ weights - y)
        if criterion == "mae":
            return float(error.mean())
        return float(np.where(error < 0.2, error**2 / 2, 0.2 * (error - 0.1)).mean())

    count, width = matrix.shape
    if criterion == "mae":
        # Minimise the mean of s subject to -s <= A w - y <= s.
        sides = np.block([[matrix, -np.eye(count)], [-matrix, -np.eye(count)]])
        cost = np.concatenate([np.zeros(width), np.full(count, 1 / count)])
        best = optimize.linprog(cost, sides, np.concatenate([y, -y]), bounds=(None, None)).fun
    else:
        best = optimize.minimize(loss, np.zeros(width)).fun
    assert best - 1e-6 <= loss(trained.astype(np.float64)) <= best * 1.002
    squares = np.linalg.lstsq(matrix, y, rcond=None)[0]
    assert loss(trained.astype(np.float64)) < loss(squares), "it must differ from least squares"


def test_the_outcomes_average_to_the_score_and_drawings_depend_on_x() -> None:
    random = np.random.default_rng(0)
    x, y, predicted = random.normal(size=(40, 3)), random.normal(size=40), random.normal(size=40)
    task = Regression(LINEAR)
    predictions, targets = {"y": predicted}, {"x": x, "y": y}
    assert task.outcomes(predictions, targets).mean() == pytest.approx(task.score(predictions, targets)["mse"])
    state = task.setup(PLANE)
    assert set(task.draw(state, predictions, targets)) == {"against"}
    assert set(task.draw(state, predictions, targets | {"x": x[:, 0]})) == {"against", "fit"}


def test_scalar_x_needs_no_axis() -> None:
    task = Regression(LINEAR)
    state = task.setup(Spec({"x": (), "y": ()}, (), {"count": 8}))
    x = torch.linspace(0, 1, 8)
    head = state.modules["net"].get_submodule("head")
    predicted = task.predict(state, {"x": x})["y"]
    assert torch.equal(predicted, head.weight[0, 0] * x + head.bias)  # type: ignore[operator]
    loss, metrics = task.loss(state, Shard({"x": x, "y": torch.zeros(8)}, torch.Generator(), 0))
    assert loss.item() == pytest.approx(predicted.square().mean().item())
    assert metrics["mae"].item() == pytest.approx(predicted.abs().mean().item())


def test_unusable_arguments_are_refused() -> None:
    with pytest.raises(Refusal, match=r"task\.delta: applies to criterion: huber"):
        Regression(LINEAR, delta=2.0)
    with pytest.raises(Refusal, match="Regression needs a column 'x', but the data have image"):
        Regression(LINEAR).setup(Spec({"image": (4, 4, 1)}, (), {}))
    with pytest.raises(Refusal, match=r"not \(4, 4\) and \(\)"):
        Regression(LINEAR).setup(Spec({"x": (4, 4), "y": ()}, (), {}))
