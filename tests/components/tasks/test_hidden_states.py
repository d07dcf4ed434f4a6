"""Check scores against the posteriors, and that only a model that sees both sides approaches the best possible one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from components.data.hidden_markov import HiddenMarkov
from components.models.recurrent import Recurrent
from components.optimizers import adam
from components.storage.dataset import prepare_dataset
from components.storage.feed import Feed
from components.storage.store import Store
from components.tasks.hidden_states import HiddenStates, mean_divergence
from components.training import engine
from components.training.task import Spec


def test_the_posterior_itself_has_no_gap() -> None:
    random = np.random.default_rng(0)
    smoothed, filtered = random.dirichlet(np.ones(3), (2, 50, 8))
    label = np.array([[random.choice(3, p=p / p.sum()) for p in row] for row in smoothed])
    targets = {"state": label, "filtered": filtered, "smoothed": smoothed}
    best = HiddenStates(Recurrent).score({"p": smoothed, "state": smoothed.argmax(2)}, targets)
    assert best["gap"] == pytest.approx(0, abs=1e-12)
    assert best["perplexity"] == pytest.approx(best["bound_perplexity"])
    assert best["accuracy"] == best["bound_accuracy"]
    past = HiddenStates(Recurrent).score({"p": filtered, "state": filtered.argmax(2)}, targets)
    assert past["gap"] == pytest.approx(best["past_gap"])


def test_the_divergence_is_that_of_scipy() -> None:
    from scipy.stats import entropy

    p, q = np.random.default_rng(1).dirichlet(np.ones(5), (2, 30))
    assert mean_divergence(p, q) == pytest.approx(np.mean([entropy(a, b) for a, b in zip(p, q, strict=True)]))


@pytest.mark.parametrize("bidirectional", [True, False])
def test_only_a_bidirectional_model_passes_the_bound_of_the_past(bidirectional: bool, tmp_path: Path) -> None:
    prepare_dataset(HiddenMarkov(length=12, train=512, validation=0, test=256), tmp_path)
    store = Store(tmp_path)
    model = partial(Recurrent, hidden=16, bidirectional=bidirectional)
    feeds = [Feed(store.split(name)) for name in ("train", "test")]
    spec = Spec({"token": (12,), "smoothed": (12, 4)}, tuple(store.manifest["classes"]), {})
    task = HiddenStates(model, partial(adam, lr=0.02))
    out = engine.fit(task, spec, *feeds, epochs=10, batch=32, evaluate_every=10)
    scores = out.scores
    assert scores["past_gap"] > 0.02
    assert (scores["gap"] < scores["past_gap"]) == bidirectional
    assert scores["perplexity"] > scores["bound_perplexity"] > 1
