"""Early stopping."""

from __future__ import annotations

from math import nan

import pytest

from components.training.meter import Meter
from components.training.task import State


@pytest.mark.parametrize(
    ("scores", "best", "waited"),
    [
        ([3.0, 2.0, 2.0, 1.0], 1.0, [0, 0, 1, 0]),
        ([nan, nan, nan], nan, [0, 1, 2]),
        ([nan, nan, 5.0, nan], 5.0, [0, 1, 0, 1]),
        ([4.0, nan, nan], 4.0, [0, 1, 2]),
    ],
)
def test_a_score_that_is_not_a_number_is_not_progress(scores: list[float], best: float, waited: list[int]) -> None:
    meter = Meter(("loss", "min"), patience=2)
    waits = []
    for score in scores:
        meter.judge({"loss": score}, State())
        waits.append(meter.waited)
    assert (waits, meter.stopped) == (waited, waited[-1] == 2)
    assert meter.best_scores == pytest.approx({"loss": best}, nan_ok=True)
