"""Perplexity follows its definition in the notes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from components.metrics.language import language_scores


def test_perplexity_is_the_number_of_choices() -> None:
    """It is 27 for a uniform guess among 27, otherwise 1 / the geometric mean of the probabilities."""
    assert language_scores(np.full((3, 4), np.log(27), np.float32)) == pytest.approx(
        {"perplexity": 27, "loss": np.log(27), "bits": np.log2(27)}
    )
    p = np.random.default_rng(0).uniform(0.01, 1, (5, 6))
    result = language_scores(-np.log(p))
    assert result["perplexity"] == pytest.approx(1 / stats.gmean(p, axis=None))
    assert 2 ** result["bits"] == pytest.approx(result["perplexity"])
    assert language_scores(np.zeros(7)) == {"perplexity": 1.0, "loss": 0.0, "bits": 0.0}


def test_an_impossible_token_gives_a_finite_perplexity() -> None:
    assert np.isfinite(language_scores(np.full(3, 1e6))["perplexity"])
