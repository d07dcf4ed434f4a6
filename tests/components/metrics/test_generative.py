"""Distances and scores match closed forms and SciPy's matrix square root."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from components.errors import Refusal
from components.metrics.generative import (
    class_coverage,
    describe_modes,
    frechet_by_size,
    frechet_distance,
    inception_score,
    nearest_class,
    patches,
    sharpness,
    spread,
    variety,
)


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
    real, generated = random.normal(size=(5, 20)), random.normal(size=(7, 20)) @ random.normal(size=(20, 20)) + 0.5
    first, second = np.cov(real, rowvar=False), np.cov(generated, rowvar=False)
    gap = real.mean(0) - generated.mean(0)
    expected = gap @ gap + np.trace(first + second - 2 * sqrtm(first @ second).real)
    assert frechet_distance(real, generated) == pytest.approx(expected, rel=1e-5)
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-9)


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


def test_spread_is_relative_to_the_real_one() -> None:
    real = np.random.default_rng(5).normal(size=(500, 2, 3))
    assert spread(real, 4 + 0.25 * real) == pytest.approx(0.25)
    assert spread(real, np.zeros((10, 2, 3))) == 0


def test_collapse_and_dropping_are_told_apart() -> None:
    """Compare a generator of one and one of six of eight modes on a ring."""
    angles = np.arange(800) % 8 * np.pi / 4
    real = np.stack([np.cos(angles), np.sin(angles)], 1)
    for modes, verdict in ((1, "ALARM, collapse"), (6, "ALARM, dropping"), (8, "none")):
        generated = real[np.arange(800) % 8 < modes]
        labels = np.arange(800)[np.arange(800) % 8 < modes] % 8
        text = describe_modes(class_coverage(labels, 8), spread(real, generated), 0.9)
        assert text.startswith(f"{verdict}: {modes / 8:.0%} of the classes")


def test_variety_reveals_a_collapse_within_each_class() -> None:
    random = np.random.default_rng(7)
    labels = np.arange(600) % 3
    centres = 10 * np.eye(3)[labels]
    real = centres + random.normal(size=(600, 3))
    narrow = centres + 0.1 * random.normal(size=(600, 3))
    assert spread(real, narrow) == pytest.approx(1, abs=0.05), "which spread does not reveal"
    ratio = variety(real, labels, narrow, labels)
    assert ratio == pytest.approx(0.1, abs=0.02)
    assert describe_modes(1.0, 1.0, 0.9, ratio).startswith("ALARM, collapse within the classes: 100%")
    assert describe_modes(1.0, 1.0, 0.9, 0.8).startswith("none: ")
    assert variety(real, labels, narrow[:2], labels[:2]) == 0, "no class was drawn twice"


def test_small_samples_overestimate_the_distance() -> None:
    """For equal Gaussians the bias falls about as 1 / size, and so does the scatter."""
    random = np.random.default_rng(6)
    real, generated = random.normal(size=(2, 3000, 20))
    means = frechet_by_size(real, generated, [100, 400, 1600], repeats=4).mean(1)
    assert means[0] > means[1] > means[2] > 0
    assert means[0] / means[1] == pytest.approx(4, rel=0.35)
    assert frechet_by_size(real, generated, [3000], repeats=1)[0, 0] == pytest.approx(frechet_distance(real, generated))


def test_sharpness_by_hand_and_patches_in_place() -> None:
    pictures = np.zeros((1, 4, 4, 1), np.uint8)
    pictures[:, :, 2:] = 255  # one edge among three columns of differences, none between rows
    assert sharpness(pictures) == pytest.approx((1 / 3 + 0) / 2)
    counted = np.arange(2 * 5 * 4 * 3).reshape(2, 5, 4, 3).astype(np.uint8)
    parts = patches(counted, side=2)
    assert parts.shape == (2 * 2 * 2, 12)
    assert np.array_equal(parts[1] * 255, counted[0, :2, 2:4].ravel())
    assert np.array_equal(parts[-1] * 255, counted[1, 2:4, 2:4].ravel())
