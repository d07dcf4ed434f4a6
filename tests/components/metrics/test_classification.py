"""Scores and intervals match scikit-learn and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap
from scipy.stats import norm
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss

from components.metrics.classification import bootstrap_interval, classification_scores, confusion_counts
from components.metrics.comparison import accuracy_summary, constant_accuracy, gain


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def test_scores_match_scikit_learn(random: np.random.Generator) -> None:
    probability = random.dirichlet(np.ones(5), 200)
    label = random.integers(0, 5, 200)
    result = classification_scores(probability.astype(np.float32), label)
    assert result["accuracy"] == accuracy_score(label, probability.argmax(1))
    assert result["loss"] == pytest.approx(log_loss(label, probability, labels=range(5)), rel=1e-5)


def test_a_certain_mistake_has_a_finite_loss() -> None:
    assert classification_scores(np.array([[1.0, 0.0]]), np.array([1]))["loss"] == pytest.approx(-np.log(1e-12))


def test_confusion_matches_scikit_learn(random: np.random.Generator) -> None:
    truth, predicted = random.integers(0, 4, (2, 300))
    assert np.array_equal(confusion_counts(predicted, truth, 5), confusion_matrix(truth, predicted, labels=range(5)))


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_the_interval_matches_scipy_and_the_normal_limit(random: np.random.Generator, level: float) -> None:
    values = (random.random(400) < 0.8).astype(float)
    low, high = bootstrap_interval(values, level, draws=4000)
    expected = scipy_bootstrap(
        (values,), np.mean, confidence_level=level, n_resamples=4000, method="percentile", rng=1
    ).confidence_interval
    width = high - low
    assert (low, high) == pytest.approx(tuple(expected), abs=0.1 * width)
    half = norm.ppf((1 + level) / 2) * values.std() / np.sqrt(len(values))
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * width)


def test_the_interval_is_deterministic_and_a_point_for_a_constant() -> None:
    values = np.arange(20.0)
    assert bootstrap_interval(values) == bootstrap_interval(values) != bootstrap_interval(values, seed=1)
    assert bootstrap_interval(np.ones(9)) == (1.0, 1.0)


def test_arms_are_compared_example_by_example(random: np.random.Generator) -> None:
    """The same examples are hard for both arms, so a paired interval is far narrower than an unpaired one."""
    hard = random.random(500) < 0.3
    baseline = np.stack([~hard, ~hard]).astype(float)
    ours = baseline.copy()
    fixed = np.flatnonzero(hard)[:10]
    ours[:, fixed] = 1.0
    result = gain(ours, baseline)
    assert result["gain"] == pytest.approx(10 / 500)
    assert 0 < result["gain_low"] < result["gain"] < result["gain_high"] < 0.05
    assert result["seeds_won"] == 2
    alone = accuracy_summary(ours)
    assert alone["accuracy"] == pytest.approx(ours.mean())
    assert alone["high"] - alone["low"] > 2 * (result["gain_high"] - result["gain_low"])
    assert alone["std"] == 0.0


def test_spread_over_seeds() -> None:
    correct = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 0]], dtype=float)
    assert accuracy_summary(correct)["std"] == pytest.approx(np.std([0.75, 0.5, 0.5], ddof=1))
    assert accuracy_summary(correct[:2])["std"] == pytest.approx(np.std([0.75, 0.5], ddof=1))
    assert accuracy_summary(correct[:1])["std"] == 0.0
    assert gain(correct, correct[::-1])["seeds_won"] == 1


def test_a_constant_answer_is_the_most_frequent_label_of_the_training_split() -> None:
    assert constant_accuracy(np.array([4, 7, 7, 9]), np.array([7, 4, 4, 4])) == 0.25
    assert constant_accuracy(np.array([3, 3]), np.array([3, 5])) == 0.5
