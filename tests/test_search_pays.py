"""Test the benchmark of the search on a trial whose best values are known: it must count every epoch."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from benchmarks.search import (
    EPOCHS,
    SPACE,
    Step,
    best_step,
    draw_values,
    epochs_until,
    interval,
    run_search,
    train_fully,
)
from components.errors import Diverged


class Peak:
    """A trial that scores best at a rate of 0.01, whatever the batch, and counts its epochs."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, values: dict, rung: int, name: str) -> dict[str, float]:
        self.calls += 1
        if values["task.optimizer.lr"] > 0.05:
            raise Diverged("the loss became nan", 1)
        return {"accuracy": 1 - abs(math.log10(values["task.optimizer.lr"]) + 2) / 4 + 0.001 * rung}


@pytest.mark.parametrize("seed", range(3))
def test_the_search_spends_less_and_every_epoch_is_counted(seed: int) -> None:
    epoch = Peak()
    steps = run_search(seed, 24, epoch)
    assert 24 <= len(steps) <= 24 + 8 + 3 + 2
    assert steps[-1].epochs == epoch.calls < 24 * EPOCHS / 2
    assert all(earlier.epochs < later.epochs for earlier, later in pairwise(steps))
    finished = [step for step in steps if math.isfinite(step.score)]
    assert 1 <= len(finished) < 24
    target = max(train_fully(values, Peak(), "") for values in draw_values(24))
    assert epochs_until(steps, target - 0.02) < 24 * EPOCHS / 3


def test_random_values_fill_the_space() -> None:
    values = draw_values(400)
    rates = [math.log10(each["task.optimizer.lr"]) for each in values]
    assert -4 <= min(rates) < -3.9
    assert -1.1 < max(rates) <= -1
    assert {each["fit.batch"] for each in values} == set(SPACE["fit.batch"]["choices"])
    assert train_fully({"task.optimizer.lr": 0.09, "fit.batch": 16}, Peak(), "") == -math.inf


def test_epochs_are_counted_up_to_the_first_trial_that_reaches_the_target() -> None:
    steps = [Step(9, 0.5), Step(10, -math.inf), Step(19, 0.7), Step(28, 0.9)]
    assert [epochs_until(steps, target) for target in (0.4, 0.6, 0.9, 0.95)] == [9, 19, 28, math.inf]


def test_the_interval_contains_medians_also_infinite_ones() -> None:
    assert interval([0.2, 0.2, 0.2]) == (0.2, 0.2)
    low, high = interval([0.1, 0.2, 0.3, 0.4, math.inf])
    assert low == 0.1
    assert high == math.inf


def test_the_first_of_equally_good_trials_is_chosen() -> None:
    steps = [Step(9, 0.5), Step(10, -math.inf), Step(19, 0.4), Step(28, 0.9), Step(37, 0.9)]
    assert best_step(steps).epochs == 28
