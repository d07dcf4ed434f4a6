"""Check Lanczos against the full Hessian of a small network, a known saddle, a known minimum, and the escape."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.func import functional_call, hessian
from torch.nn import functional as F

from components.data.digits import Digits
from components.errors import Refusal
from components.models.mlp import MLP
from components.models.resnet import ResNet
from components.models.softmax import Softmax
from components.optimizers import sgd
from components.storage.dataset import prepare_dataset
from components.storage.feed import Feed
from components.storage.store import Store
from components.tasks.critical_points import CriticalPoints, surface_distances
from components.tasks.gradient_variance import GradientVariance
from components.tasks.line_between import LineBetween
from components.training import engine, evaluation
from components.training.lanczos import eigenpair, extend_basis, ritz_values, second_rank, tridiagonal
from components.training.peers import Peers, fork_workers
from components.training.task import Spec

SMALL = partial(MLP, hidden=[3], dropout=0.0, activation="sigmoid")


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Feed:
    folder = tmp_path_factory.mktemp("digits")
    prepare_dataset(Digits(labels=60, size=4), folder)
    return Feed(Store(folder).split("train"))


def spec() -> Spec:
    return Spec({"image": (4, 4, 1)}, tuple("0123456789"), {"mean": [0.3], "std": [0.3], "count": 60})


def fit(task: CriticalPoints, feed: Feed, steps: int, **options) -> engine.Outcome:
    return engine.fit(task, spec(), feed, epochs=steps, shards=2, **{"batch": 60, **options})


def full_hessian(task: CriticalPoints, outcome: engine.Outcome, feed: Feed) -> np.ndarray:
    """Return the Hessian [P, P] of the training loss by automatic differentiation."""
    net = outcome.state.modules["net"].double()
    parameters = dict(net.named_parameters())
    sizes = [p.numel() for p in parameters.values()]
    batch = next(feed.batches(60))
    images = task.classification.pixels(batch).double()

    def loss(flat: torch.Tensor) -> torch.Tensor:
        pieces = dict(zip(parameters, flat.split(sizes), strict=True))
        weights = {name: piece.view(parameters[name].shape) for name, piece in pieces.items()}
        return (
            F.cross_entropy(functional_call(net, weights, images), batch["label"]) + task.l2 / 2 * flat.square().sum()
        )

    return hessian(loss)(torch.cat([p.detach().reshape(-1) for p in parameters.values()])).numpy()


@pytest.mark.parametrize("l2", [0.0, 0.05])
def test_extreme_eigenvalues_are_those_of_the_full_hessian(feed: Feed, l2: float) -> None:
    task = CriticalPoints(SMALL, products=60, l2=l2)
    outcome = fit(task, feed, 60)
    smallest, vector = eigenpair(outcome.state.tables, 0)
    matrix = full_hessian(task, outcome, feed)
    values = np.linalg.eigvalsh(matrix)
    assert smallest == pytest.approx(values[0], abs=1e-4 * values[-1])
    assert np.linalg.eigvalsh(tridiagonal(outcome.state.tables))[-1] == pytest.approx(values[-1], rel=1e-4)
    assert np.linalg.norm(matrix @ vector - smallest * vector) < 1e-3 * values[-1], "the vector must be an eigenvector"


def test_the_drawn_surface_is_the_loss_in_the_plane_of_the_largest_two(feed: Feed) -> None:
    """Check points of the grid by moving the weights by hand, with eigenvectors of the full Hessian."""
    task = CriticalPoints(SMALL, products=60, surface=5)
    outcome = fit(task, feed, 65)
    tables = outcome.state.tables
    matrix = full_hessian(task, outcome, feed)
    values, vectors = np.linalg.eigh(matrix)
    distances = surface_distances(tables, 5)
    second = np.flatnonzero(values < 0.9 * values[-1]).max()
    assert distances[-1] == pytest.approx(np.sqrt(2 * 2.0 / values[second]), rel=1e-3)
    net = outcome.state.modules["net"]  # in float64 since the Hessian was computed
    batch = next(feed.batches(60))
    start = torch.nn.utils.parameters_to_vector(net.parameters()).detach()
    pairs = {-1: -1, second: second_rank(tables)}  # of the full matrix: of the tables
    signs = [np.sign(vectors[:, rank] @ eigenpair(tables, other)[1]) for rank, other in pairs.items()]
    for row, column in ((0, 0), (2, 2), (1, 4)):
        move = signs[0] * distances[column] * vectors[:, -1] + signs[1] * distances[row] * vectors[:, second]
        torch.nn.utils.vector_to_parameters(start + torch.from_numpy(move), net.parameters())
        loss = F.cross_entropy(net(task.classification.pixels(batch).double()), batch["label"]).item()
        assert tables["surface"][row, column] == pytest.approx(loss, rel=1e-3)
    scores = {"smallest": values[0], "largest": values[-1], "gradient_norm": 1.0}
    assert task.tags(outcome.state, scores)["verdict"].startswith("not a critical point")
    assert set(task.draw(outcome.state, {}, {})) == {"spectrum", "surface"}
    tables["surface"] = tables["surface"][:3]
    assert set(task.draw(outcome.state, {}, {})) == {"spectrum"}, "the run ended before its last rows"


def test_more_products_than_dimensions_are_harmless() -> None:
    matrix = np.diag([3.0, 1.0, -2.0])
    tables = {"basis": np.ones((1, 3)) / np.sqrt(3), "alpha": np.zeros(0), "beta": np.zeros(0)}
    for _ in range(6):
        extend_basis(tables, matrix @ tables["basis"][-1])
    assert np.linalg.eigvalsh(tridiagonal(tables)) == pytest.approx([-2, 1, 3])
    assert ritz_values(tables)[-1] == pytest.approx([-2, 3])


@pytest.mark.parametrize("ema", [None, 0.9])
def test_zero_weights_are_a_saddle_with_a_way_down(feed: Feed, ema: float | None) -> None:
    task = CriticalPoints(SMALL, scale=0.0, products=30, reach=8.0)
    outcome = fit(task, feed, 43, ema=ema)
    before, after, distance = outcome.state.tables["escape"]
    scores, _ = evaluation.evaluate(task, outcome.state, feed)
    assert before == pytest.approx(np.log(10), abs=1e-5)
    assert after < before - 0.05
    assert abs(distance) > 0
    assert scores["gradient_norm"] < 1e-6
    assert scores["loss"] == pytest.approx(after, abs=1e-5), "the final weights must be those of the lowest probe"
    assert task.tags(outcome.state, scores)["verdict"].startswith("saddle")
    assert set(task.draw(outcome.state, {}, {})) == {"spectrum", "section"}


@pytest.mark.parametrize(("steps", "products"), [(4, 0), (15, 10)])
def test_too_few_steps_give_no_verdict(feed: Feed, steps: int, products: int) -> None:
    """Zeros in place of eigenvalues once passed for a minimum."""
    task = CriticalPoints(SMALL, descend=5, products=20)
    outcome = fit(task, feed, steps)
    scores, _ = evaluation.evaluate(task, outcome.state, feed)
    verdict = task.tags(outcome.state, scores)["verdict"]
    assert verdict == f"none: {products} of 20 products are done; raise fit.epochs"


@pytest.mark.parametrize("task", [CriticalPoints, LineBetween, GradientVariance])
def test_dropout_and_batch_normalisation_are_refused(
    task: type[CriticalPoints | LineBetween | GradientVariance],
) -> None:
    """With them, the loss at the same weights has no single value, no gradient and no Hessian."""
    with pytest.raises(Refusal, match=r"task.model: 'body.3' drops values at random \(p = 0.5\), but .*; set task.mod"):
        task(MLP).setup(spec())
    with pytest.raises(Refusal, match=r"task.model: '.*' normalises by the statistics of its shard, but"):
        task(partial(ResNet, widths=[4], blocks=1)).setup(spec())


def test_a_penalised_convex_loss_has_a_minimum(feed: Feed) -> None:
    task = CriticalPoints(Softmax, partial(sgd, lr=0.3, momentum=0.9), descend=200, products=60, l2=0.02)
    outcome = fit(task, feed, 273)
    scores, _ = evaluation.evaluate(task, outcome.state, feed)
    assert scores["smallest"] == pytest.approx(0.02, rel=0.02), "flat directions have only the curvature of the penalty"
    assert scores["fall"] == pytest.approx(0, abs=1e-4)
    assert task.tags(outcome.state, scores)["verdict"].startswith("minimum")


@pytest.mark.parametrize("order", ["shuffled", "sequential"])
@pytest.mark.parametrize("batch", [20, 59])
def test_a_batch_that_leaves_out_examples_is_refused(feed: Feed, batch: int, order: str) -> None:
    """Check the sequential order, too: it would leave out the same examples in every step."""
    with pytest.raises(
        Refusal, match=rf"fit.batch: {batch} of 60 training rows; each step of CriticalPoints needs all"
    ):
        fit(CriticalPoints(SMALL, products=5), feed, 5, batch=batch, order=order)


def test_all_rows_are_those_of_the_feed(feed: Feed) -> None:
    """Check that `all` in a fold is its own number of rows: the eigenvalues are those of a batch of that size."""
    fold = Feed(feed.split, np.arange(40))
    largest = [
        fit(CriticalPoints(SMALL, products=8), fold, 8, batch=batch).state.tables["alpha"] for batch in ("all", 40)
    ]
    assert np.array_equal(*largest)


def test_workers_and_interruptions_do_not_change_the_bytes(feed: Feed, tmp_path: Path) -> None:
    from components.training import checkpoint

    def run(peers: Peers, folder: Path, until: int | None) -> None:
        folder.mkdir(exist_ok=True)
        fit(CriticalPoints(SMALL, products=12), feed, 20, folder=folder, peers=peers, until=until)

    def checkpoint_bytes(folder: Path) -> dict[str, bytes]:
        return {
            name: t.numpy().tobytes()
            for name, t in checkpoint.read_checkpoint(checkpoint.list_checkpoints(folder)[0])[0].items()
        }

    fork_workers(run, 1, tmp_path / "one", None)
    fork_workers(run, 2, tmp_path / "two", 7)
    fork_workers(run, 1, tmp_path / "two", 15)
    fork_workers(run, 2, tmp_path / "two", None)
    assert checkpoint_bytes(tmp_path / "one") == checkpoint_bytes(tmp_path / "two")
