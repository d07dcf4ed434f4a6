"""Errors and R^2 match scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from components.metrics.regression import regression_scores


@pytest.mark.parametrize("noise", [0.0, 0.3, 5.0])
def test_scores_match_scikit_learn(noise: float) -> None:
    """With much noise R^2 is below 0."""
    random = np.random.default_rng(0)
    truth = random.normal(100, 2, 50).astype(np.float32)
    predicted = (truth + noise * random.standard_normal(50)).astype(np.float32)
    result = regression_scores(predicted, truth)
    oracles = metrics.mean_squared_error, metrics.mean_absolute_error, metrics.r2_score
    wide = truth.astype(np.float64), predicted.astype(np.float64)
    assert result == pytest.approx(dict(zip(("mse", "mae", "r2"), (oracle(*wide) for oracle in oracles), strict=True)))


@pytest.mark.parametrize("value", [3.0, 4.0])
def test_a_truth_without_variance(value: float) -> None:
    truth, predicted = np.full(5, 3.0), np.full(5, value)
    assert regression_scores(predicted, truth)["r2"] == metrics.r2_score(truth, predicted)
