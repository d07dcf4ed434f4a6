"""A model that is no better than a constant answer is named."""

from __future__ import annotations

import pytest

from components.verdicts.caveats import describe_worthless


@pytest.mark.parametrize(
    ("scores", "constant", "worthless"),
    [
        ({"accuracy": 0.8}, 0.8, True),
        ({"accuracy": 0.81}, 0.8, False),
        ({"r2": -0.1, "mse": 3.0}, None, True),
        ({"r2": 0.1}, None, False),
        ({"skill": 0.0, "mse": 0.1}, None, True),
        ({"bleu": 0.0}, None, False),
        ({"accuracy": 0.1}, None, False),
    ],
)
def test_a_constant_answer_is_the_least(scores: dict[str, float], constant: float | None, worthless: bool) -> None:
    sentence = describe_worthless(scores, constant)
    assert (sentence is not None) == worthless
    if sentence is not None:
        assert "that of a constant answer: nothing is learned" in sentence
