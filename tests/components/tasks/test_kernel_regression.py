"""Check leave-one-out losses and predictions by brute force, the trained width, and the table of examples."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import optimize

from components.data.curve import Curve
from components.errors import Refusal
from components.models.nadaraya_watson import NadarayaWatson
from components.optimizers import adam
from components.runs import journal
from components.storage.dataset import prepare_dataset
from components.storage.feed import Feed
from components.storage.store import Store
from components.tasks.kernel_regression import EXAMPLES, KernelRegression
from components.training import checkpoint, engine, evaluation
from components.training.peers import Peers, fork_workers
from components.training.task import Shard, Spec, State

SPEC = Spec({"x": (), "y": ()}, (), {})
COUNT = 45
VARIANTS = {
    "average": partial(NadarayaWatson, pooling="average"),
    "kernel": partial(NadarayaWatson, width=1.0),
    "parametric": partial(NadarayaWatson, width=1.0, learn=True),
}


def store_of(folder: Path, seed: int = 0) -> Store:
    if not folder.is_dir():
        prepare_dataset(Curve(train=COUNT, validation=20, test=200, seed=seed), folder)
    return Store(folder)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return store_of(tmp_path_factory.mktemp("curve") / "data")


def fitted(store: Store, model: partial, **options) -> State:
    fit = {"epochs": 1, "batch": COUNT, "shards": 2, **options}
    task = KernelRegression(model, partial(adam, lr=0.2))
    return engine.fit(task, SPEC, Feed(store.split("train")), **fit).state


def weighted_mean(x: float, keys: np.ndarray, values: np.ndarray, w: float) -> float:
    kernel = np.exp(-(((x - keys) * w) ** 2) / 2)
    return float((kernel * values).sum() / kernel.sum())


def left_out(w: float, keys: np.ndarray, values: np.ndarray) -> float:
    """Return the mean squared error of predicting each example from all others."""
    errors = [weighted_mean(keys[i], np.delete(keys, i), np.delete(values, i), w) - values[i] for i in range(len(keys))]
    return float(np.mean(np.square(errors)))


def examples(store: Store, split: str = "train") -> tuple[np.ndarray, np.ndarray]:
    feed = Feed(store.split(split))
    return feed.column("x").astype(np.float64), feed.column("y").astype(np.float64)


@pytest.mark.parametrize(("name", "w"), [("average", 0.0), ("kernel", 1.0)])
def test_losses_leave_the_example_out_and_predictions_use_all(name: str, w: float, store: Store) -> None:
    task, state, feed = KernelRegression(VARIANTS[name]), fitted(store, VARIANTS[name]), Feed(store.split("train"))
    keys, values = examples(store)
    loss = task.loss(state, Shard(next(feed.batches(COUNT)), torch.Generator(), 0))[0]
    assert loss.item() == pytest.approx(left_out(w, keys, values), rel=1e-5)
    scores, predictions = evaluation.evaluate(task, state, Feed(store.split("test")))
    x, y = examples(store, "test")
    expected = np.array([weighted_mean(query, keys, values, w) for query in x])
    assert predictions["y"] == pytest.approx(expected, abs=1e-5)
    assert scores["mse"] == pytest.approx(np.square(expected - y).mean(), rel=1e-4)


def test_the_trained_width_minimises_the_leave_one_out_loss(store: Store) -> None:
    """Compare with scipy's scalar minimum. If an example could see itself, the width would approach 0."""
    state = fitted(store, partial(NadarayaWatson, width=0.25, learn=True), epochs=200)
    (w,) = state.modules["net"].parameters()
    best = optimize.minimize_scalar(left_out, bounds=(0.5, 12.0), args=examples(store), method="bounded").x
    assert w.item() == pytest.approx(best, rel=0.02)
    assert 1 < best < 10, "the minimum must lie inside the bounds"
    tags = KernelRegression(VARIANTS["parametric"]).tags(state, {})
    assert float(tags["kernel_width"]) == pytest.approx(1 / best, rel=0.03)


@pytest.mark.parametrize("seed", range(3))
def test_a_trained_width_beats_a_fixed_width_which_beats_the_average(seed: int, tmp_path: Path) -> None:
    store = store_of(tmp_path / "data", seed)
    mse = {}
    for name, model in VARIANTS.items():
        state = fitted(store, model, epochs=100 if name == "parametric" else 1)
        mse[name] = evaluation.evaluate(KernelRegression(model), state, Feed(store.split("test")))[0]["mse"]
    assert mse["parametric"] < 0.8 * mse["kernel"]
    assert mse["kernel"] < 0.8 * mse["average"]


@pytest.mark.parametrize("batch", [COUNT, 10, 2])
def test_all_training_examples_are_stored_at_the_end(batch: int, store: Store) -> None:
    """Check that the table is the same for every batch size; batches of 10 leave out five of 45 examples."""
    keys, values = examples(store)
    table = fitted(store, VARIANTS["kernel"], batch=batch).tables[EXAMPLES]
    assert np.array_equal(table, np.column_stack([np.arange(COUNT), values, keys]))


def run(peers: Peers, data: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    task = KernelRegression(VARIANTS["parametric"])
    engine.fit(task, SPEC, Feed(store_of(data).split("train")), None, folder, peers, epochs=3, batch=10, shards=3)


def test_the_number_of_workers_does_not_change_the_bytes(store: Store, tmp_path: Path) -> None:
    results = []
    for size in (1, 2):
        folder = tmp_path / str(size)
        fork_workers(run, size, Path(store.folder), folder)
        tensors, record = checkpoint.read_checkpoint(checkpoint.list_checkpoints(folder)[0])
        metrics = journal.read_metrics(folder)
        results.append(({key: value.numpy().tobytes() for key, value in tensors.items()}, record["scalars"], metrics))
    assert results[0] == results[1]


def test_both_axes_of_the_heat_map_are_sorted(store: Store) -> None:
    task, state = KernelRegression(VARIANTS["kernel"]), fitted(store, VARIANTS["kernel"])
    test = Feed(store.split("test"))
    predictions = evaluation.evaluate(task, state, test)[1]
    drawn = task.draw(state, predictions, evaluation.target_columns(task, test))
    assert set(drawn) == {"against", "fit", "attention"}
    (mesh,) = drawn["attention"].axes[0].collections
    weights = np.asarray(mesh.get_array()).reshape(200, COUNT)
    x, keys = np.sort(examples(store, "test")[0]), np.sort(examples(store)[0])
    kernel = np.exp(-((x[:, None] - keys) ** 2) / 2)
    assert weights == pytest.approx(kernel / kernel.sum(1, keepdims=True), abs=1e-6)


def test_batches_of_one_example_are_refused(store: Store) -> None:
    with pytest.raises(Refusal, match="each example is predicted from other examples; set it to 2 or more"):
        fitted(store, VARIANTS["kernel"], batch=1, shards=1)
