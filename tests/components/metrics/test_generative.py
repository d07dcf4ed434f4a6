"""Distances and scores match closed forms and SciPy's matrix square root."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from components.errors import Refusal
from components.metrics.generative import class_coverage, frechet_distance, inception_score, nearest_class


def test_distance_matches_that_of_two_gaussians() -> None:
    """For independent features it is |m1 - m2|^2 + sum (s1 - s2)^2, up to a few percent of sampling noise."""
    random = np.random.default_rng(0)
    real = random.normal([0, 0, 0], [1, 2, 3], (40_000, 3))
    generated = random.normal([1, 0, -2], [2, 2, 1], (40_000, 3))
    assert frechet_distance(real, generated) == pytest.approx(1 + 4 + 1 + 0 + 4, rel=0.03)


def test_distance_uses_the_matrix_square_root() -> None:
    random = np.random.default_rng(1)
    real, generated = (random.normal(size=(50, 6)) @ random.normal(size=(6, 6)) + shift for shift in (0, 0.5))
    first, second = np.cov(real, rowvar=False), np.cov(generated, rowvar=False)
    gap = real.mean(0) - generated.mean(0)
    expected = gap @ gap + np.trace(first + second - 2 * sqrtm(first @ second).real)
    assert frechet_distance(real, generated) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-9)


def test_distance_of_fewer_examples_than_features() -> None:
    random = np.random.default_rng(2)
    assert frechet_distance(random.normal(size=(5, 20)), random.normal(size=(5, 20))) > 0


def test_inception_score_at_its_extremes() -> None:
    assert inception_score(np.eye(10)) == pytest.approx(10)
    assert inception_score(np.full((7, 10), 0.1)) == pytest.approx(1)
    assert inception_score(np.tile(np.eye(10)[3], (9, 1))) == pytest.approx(1), "certain, but always of the same class"
    by_hand = np.exp(np.mean([0.9 * np.log(0.9 / 0.5) + 0.1 * np.log(0.1 / 0.5)] * 2))
    assert inception_score(np.array([[0.9, 0.1], [0.1, 0.9]])) == pytest.approx(by_hand)


def test_coverage_counts_the_classes_that_are_produced() -> None:
    labels = np.array([0] * 50 + [1] * 49 + [2])
    assert class_coverage(labels, 4) == 0.5, "1 of 100 is too rare: a tenth of the fair share is 2.5"
    assert class_coverage(np.arange(4), 4) == 1


def test_nearest_class_and_distance_in_deviations() -> None:
    random = np.random.default_rng(3)
    labels = np.repeat([0, 1], 2000)
    real = random.normal(0, 0.1, (4000, 2)) + labels[:, None] * 5
    nearest_labels, distance = nearest_class(np.array([[0.0, 0.3], [5.0, 5.0], [4.0, 5.0]]), real, labels, 2)
    assert nearest_labels.tolist() == [0, 1, 1]
    assert distance == pytest.approx([3, 0, 10], abs=0.3)


@pytest.mark.parametrize("count", [0, 1])
def test_a_class_without_two_real_examples_is_refused(count: int) -> None:
    """Its mean or its standard deviation would not be defined."""
    real, labels = np.random.default_rng(4).normal(size=(5 + count, 2)), np.array([0, 0, 0, 1, 1] + [2] * count)
    with pytest.raises(Refusal, match=rf"^coverage: class 2 has {count} real examples, .*; use a larger split$"):
        nearest_class(real, real, labels, 3)
