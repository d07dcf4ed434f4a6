"""Check the loss on the line between two networks: by hand, for a convex loss, and for one that is not."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from components.data.digits import Digits
from components.models.mlp import MLP
from components.models.softmax import Softmax
from components.optimizers import sgd
from components.search.trials import Trial
from components.storage.dataset import prepare_dataset
from components.storage.feed import Feed
from components.storage.store import Store
from components.tasks.line_between import LineBetween, barrier
from components.training import engine
from components.training.task import Spec
from pipelines.stage import trial_curves

SPEC = Spec({"image": (4, 4, 1)}, tuple("0123456789"), {"mean": [0.3], "std": [0.3], "count": 60})
FAST = partial(sgd, lr=0.3, momentum=0.9)


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Feed:
    folder: Path = tmp_path_factory.mktemp("digits")
    prepare_dataset(Digits(labels=60, size=4), folder)
    return Feed(Store(folder).split("train"))


def fit(task: LineBetween, feed: Feed) -> engine.Outcome:
    return engine.fit(task, SPEC, feed, feed, epochs=task.descend + task.points, batch="all", shards=2, log_every=1000)


def test_softmax_regression_is_convex_and_a_perceptron_is_not(feed: Feed) -> None:
    convex = fit(LineBetween(Softmax, FAST, descend=60, points=7), feed)
    other = fit(LineBetween(partial(MLP, hidden=[8], dropout=0.0), FAST, descend=100, points=7), feed)
    assert convex.scores["barrier"] == pytest.approx(0, abs=1e-6)
    assert other.scores["barrier"] > 0.3
    line = convex.state.tables["line"]
    assert np.all(np.diff(line, 2) > -1e-6), "a convex function has no negative second difference"


def test_the_line_is_the_loss_of_blended_weights(feed: Feed) -> None:
    task = LineBetween(partial(MLP, hidden=[8], dropout=0.0), FAST, descend=20, points=5, l2=0.01)
    state = fit(task, feed).state
    first, second = (torch.nn.utils.parameters_to_vector(state.modules[n].parameters()) for n in ("first", "second"))
    assert not torch.equal(first, second)
    net = state.modules["first"]
    batch = next(feed.batches(60))
    for index in (0, 1, 4):
        weights = torch.lerp(first, second, index / 4).detach()
        torch.nn.utils.vector_to_parameters(weights, net.parameters())
        loss = F.cross_entropy(net(task.classification.pixels(batch)), batch["label"]) + 0.005 * weights.square().sum()
        assert state.tables["line"][index] == pytest.approx(loss.item(), rel=1e-4)


def test_steps_beyond_the_line_change_nothing_and_too_few_give_no_verdict(feed: Feed) -> None:
    task = LineBetween(partial(MLP, hidden=[8], dropout=0.0), FAST, descend=20, points=5)
    fits = {
        steps: engine.fit(task, SPEC, feed, feed, epochs=steps, batch="all", log_every=1000) for steps in (22, 25, 31)
    }
    assert fits[31].scores == fits[25].scores
    assert fits[25].scores["barrier"] > 0
    assert task.tags(fits[31].state, fits[31].scores)["line"].startswith("a barrier")
    assert task.tags(fits[22].state, fits[22].scores) == {"line": "none: 2 of 5 points are measured; raise fit.epochs"}


def test_a_search_shows_the_loss_on_the_line(feed: Feed, tmp_path: Path) -> None:
    task = LineBetween(Softmax, FAST, descend=3, points=4)
    outcome = engine.fit(task, SPEC, feed, feed, tmp_path / "run", epochs=7, batch="all", shards=2, log_every=1000)
    trial_curves.write_curves(trial_curves.curve_file(tmp_path, {}, 0), tmp_path / "run")
    trials = [Trial("trials", 0, {}, parts=[outcome.scores])]
    figure = trial_curves.draw_trial_curves(trial_curves.read_curves([tmp_path], trials), trials)
    assert figure is not None
    curves = {axes.get_title("left"): axes.lines[0].get_ydata() for axes in figure.axes}
    assert [len(curve) for curve in curves.values()] == [3, 3, 4]
    assert curves["line loss"] == pytest.approx(outcome.state.tables["line"])


def test_a_quadratic_has_no_barrier_and_a_closed_form() -> None:
    share = np.linspace(0, 1, 11)
    ends, curvature = (2.0, 1.0), 3.0
    line = (1 - share) * ends[0] + share * ends[1] - curvature / 2 * share * (1 - share)
    assert barrier(line) == 0
    assert barrier(-line) == pytest.approx(curvature / 8), "half the curvature, a quarter of the way squared"
