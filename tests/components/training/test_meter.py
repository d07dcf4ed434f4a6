"""Early stopping, and means over steps."""

from __future__ import annotations

from math import nan

import pytest
import torch

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


def test_means_over_steps_are_weighted_by_their_tokens_across_checkpoints() -> None:
    """3 tokens with a loss of 1 and one with a loss of 5 have a mean of 2, not 3."""
    meter = Meter(("loss", "min"))
    meter.add({"loss": torch.tensor(1.0)}, torch.tensor(3.0))
    resumed = Meter(("loss", "min"))
    resumed.load(meter.progress(0), {}, torch.device("cpu"))
    resumed.add({"loss": torch.tensor(5.0)}, torch.tensor(1.0))
    assert resumed.take_means(2) == {"loss": 2.0}
    again = Meter(("loss", "min"))
    again.load(resumed.progress(0), {}, torch.device("cpu"))
    again.add({"loss": torch.tensor(6.0)}, torch.tensor(4.0))
    assert again.take_means(3) == {"loss": 6.0}
    assert again.take_epoch_means() == {"loss": 4.0}


def test_steps_without_tokens_have_a_mean_of_0_and_do_not_count_in_the_epoch() -> None:
    meter = Meter(("loss", "min"))
    meter.add({"loss": torch.tensor(0.0)}, torch.tensor(0.0))
    assert meter.take_means(1) == {"loss": 0.0}
    meter.add({"loss": torch.tensor(5.0)}, torch.tensor(2.0))
    meter.take_means(2)
    assert meter.take_epoch_means() == {"loss": 5.0}


def test_without_weights_each_step_counts_once() -> None:
    meter = Meter(("loss", "min"))
    for loss in (1.0, 2.0, 6.0):
        meter.add({"loss": torch.tensor(loss)})
    assert meter.take_means(3) == meter.take_epoch_means() == {"loss": 3.0}
