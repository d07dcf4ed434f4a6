"""Check the variance of gradients against each example's own gradient, for several batches and numbers of workers."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from components.data.digits import Digits
from components.models.mlp import MLP
from components.storage.dataset import prepare_dataset
from components.storage.feed import Feed
from components.storage.store import Store
from components.tasks.gradient_variance import GradientVariance
from components.training import engine
from components.training.task import Spec

ROWS = 60
SPEC = Spec({"image": (4, 4, 1)}, tuple("0123456789"), {"mean": [0.3], "std": [0.3], "count": ROWS})


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Feed:
    folder: Path = tmp_path_factory.mktemp("digits")
    prepare_dataset(Digits(labels=ROWS, size=4), folder)
    return Feed(Store(folder).split("train"))


@pytest.mark.parametrize(("batch", "epochs", "shards"), [(1, 2, 1), (10, 300, 1), (20, 300, 2), ("all", 3, 1)])
def test_the_variance_is_that_of_all_batches(feed: Feed, batch: int | str, epochs: int, shards: int) -> None:
    """Each example's own gradient gives it: (N - B) / (N - 1) / B times the trace of their covariance."""
    task = GradientVariance(partial(MLP, hidden=[3], dropout=0.0))
    outcome = engine.fit(task, SPEC, feed, epochs=epochs, batch=batch, shards=shards)
    rows = next(feed.batches(ROWS))
    with torch.no_grad():
        predictions = {name: values.numpy() for name, values in task.predict(outcome.state, rows).items()}
    scores = task.score(predictions, {"label": rows["label"].numpy()})
    net = outcome.state.modules["net"].eval()
    parameters = {name: parameter.detach() for name, parameter in net.named_parameters()}

    def loss(weights: dict[str, torch.Tensor], image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(functional_call(net, weights, image[None]), label[None])

    pixels = task.classification.pixels(rows)
    each = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, pixels, rows["label"].long())
    gradients = np.concatenate([g.reshape(ROWS, -1).double().numpy() for g in each.values()], axis=1)
    size = ROWS if batch == "all" else int(batch)
    expected = gradients.var(axis=0).sum() * (ROWS - size) / (ROWS - 1) / size
    drawn = 0.05 if 1 < size < ROWS else 0.02  # the batches are a sample of all; the singles are counted as a sample
    assert scores["variance"] == pytest.approx(expected, rel=drawn, abs=1e-12)
    assert scores["gradient_norm"] == pytest.approx(np.linalg.norm(gradients.mean(axis=0)), rel=1e-5)


def test_nothing_is_learned(feed: Feed) -> None:
    task = GradientVariance(partial(MLP, hidden=[3], dropout=0.0))
    nets = [engine.fit(task, SPEC, feed, epochs=epochs, batch=10).state.modules["net"] for epochs in (1, 2)]
    for first, later in zip(*(net.parameters() for net in nets), strict=True):
        assert torch.equal(first, later)
