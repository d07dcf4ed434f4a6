"""Early stopping, and means over steps."""

from __future__ import annotations

import time
from math import inf, nan

import numpy as np
import pytest
import torch
from torch import nn

from components.errors import Diverged, Refusal
from components.training.meter import Meter
from components.training.metric_names import NOISE_SCALE
from components.training.noise_scale import AVERAGING_STEPS, BATCH_GRADIENT, SHARD_GRADIENT, NoiseScale
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


@pytest.mark.parametrize(
    ("direction", "scores", "waited"),
    [("max", [1.0, 2.0, 2.0, 1.5, 2.1], [0, 0, 1, 2, 0]), ("min", [1.0, 2.0, 1.0, 0.9], [0, 1, 2, 0])],
)
def test_an_equal_score_is_not_progress_in_either_direction(
    direction: str, scores: list[float], waited: list[int]
) -> None:
    meter = Meter(("score", direction), patience=3)
    waits = []
    for score in scores:
        meter.judge({"score": score}, State())
        waits.append(meter.waited)
        assert meter.scores == {"score": score}
    assert waits == waited
    assert meter.best_scores == {"score": max(scores) if direction == "max" else min(scores)}


@pytest.mark.parametrize(("patience", "stops"), [(2, [False, False, True]), (3, [False] * 3), (None, [False] * 3)])
def test_patience_ends_with_its_last_evaluation(patience: int | None, stops: list[bool]) -> None:
    meter = Meter(("loss", "min"), patience=patience)
    stopped = []
    for _ in range(3):
        meter.judge({"loss": 1.0}, State())
        stopped.append(meter.stopped)
    assert stopped == stops


def test_a_run_begins_neither_stopped_nor_finished() -> None:
    meter = Meter(("loss", "min"), patience=1)
    assert (meter.stopped, meter.finished, meter.keep_best, meter.waited, meter.steps) == (False, False, False, 0, 0)
    assert (Meter(("loss", "min")).patience, meter.noise, meter.weight, meter.epoch_weight) == (None, None, 0, 0)


def test_a_score_that_the_task_does_not_give_is_refused() -> None:
    with pytest.raises(Refusal, match="no score 'acuracy'; it has: accuracy, loss"):
        Meter(("acuracy", "max")).judge({"accuracy": 1.0, "loss": 0.0}, State())


def test_the_best_weights_and_tables_come_back() -> None:
    state = State({"net": nn.Linear(2, 1)}, tables={"counts": np.array([1.0, 2.0])})
    meter, other = Meter(("loss", "min"), keep_best=True), Meter(("loss", "min"))
    best = state.modules["net"].weight.detach().clone()
    for loss in (1.0, 2.0):
        for each in (meter, other):
            each.judge({"loss": loss}, state)
        with torch.no_grad():
            state.modules["net"].weight.add_(1)
        state.tables["counts"] += 1
    last = state.modules["net"].weight.detach().clone()
    other.restore_best(state)
    assert torch.equal(state.modules["net"].weight, last), "without keep_best nothing is restored"
    assert other.scores == {"loss": 2.0}
    meter.restore_best(state)
    assert torch.equal(state.modules["net"].weight, best)
    assert state.tables["counts"].tolist() == [1.0, 2.0]
    assert (meter.scores, meter.best_weights) == ({"loss": 1.0}, {})


@pytest.mark.parametrize(
    ("losses", "step"), [([1.0, nan, 2.0], 11), ([inf, 1.0, 1.0], 10), ([1.0, 1.0, nan], 12), ([3e38, 3e38, 1.0], 10)]
)
def test_the_first_step_with_a_loss_that_is_not_finite_is_named(losses: list[float], step: int) -> None:
    """Check steps 10 to 12. If all are finite and only their sum is not, the first one is named."""
    meter = Meter(("loss", "min"))
    for loss in losses:
        meter.add({"train_loss": torch.tensor(loss), "norm": torch.tensor(1.0)})
    with pytest.raises(Diverged, match="the train_loss became") as diverged:
        meter.take_means(12)
    assert diverged.value.step == step


def test_other_metrics_need_not_be_finite() -> None:
    meter = Meter(("loss", "min"))
    meter.add({"norm": torch.tensor(inf), "loss": torch.tensor(1.0)})
    assert meter.take_means(1) == {"norm": inf, "loss": 1.0}


def test_the_noise_scale_gets_the_squared_norms_of_every_step() -> None:
    """A batch of 8 in 2 shards: |G|^2 = 2 * 3 - 5 = 1, tr(S) = 8 * (5 - 3) = 16."""
    meter, oracle = Meter(("loss", "min"), noise=NoiseScale(8, 2)), NoiseScale(8, 2)
    for _ in range(3):
        meter.add({n: torch.tensor(v) for n, v in {SHARD_GRADIENT: 5.0, BATCH_GRADIENT: 3.0, "loss": 1.0}.items()})
    oracle.add(5.0, 3.0, 3)
    assert meter.take_means(3) == {"loss": 1.0, NOISE_SCALE: pytest.approx(16.0)}
    assert meter.take_epoch_means() == {"loss": 1.0}
    assert (meter.noise.signal, meter.noise.noise) == pytest.approx((oracle.signal, oracle.noise))
    assert oracle.signal == pytest.approx(1 - (1 - 1 / 100) ** 3)
    assert AVERAGING_STEPS == 100
    resumed = Meter(("loss", "min"), noise=NoiseScale(8, 2))
    resumed.load(meter.progress(0), {}, torch.device("cpu"))
    assert resumed.noise == meter.noise
    meter.add({SHARD_GRADIENT: torch.tensor(1000.0), BATCH_GRADIENT: torch.tensor(1.0), "loss": torch.tensor(1.0)})
    assert meter.take_means(4).keys() == {"loss"}, "the signal is lost in the noise"


def test_all_progress_comes_back_from_a_checkpoint() -> None:
    meter = Meter(("loss", "min"), patience=1)
    meter.add({"loss": torch.tensor(2.0)})
    meter.take_means(1)
    meter.add({"loss": torch.tensor(3.0)})
    for loss in (1.0, 2.0):
        meter.judge({"loss": loss}, State())
    meter.finished = True
    resumed = Meter(("loss", "min"), patience=1)
    resumed.load(meter.progress(7), {"net": torch.ones(1)}, torch.device("cpu"))
    assert resumed.progress(7) == meter.progress(7)
    assert meter.progress(7)["position"] == 7
    assert (resumed.waited, resumed.stopped, resumed.finished) == (1, True, True)
    assert (resumed.scores, resumed.best_scores) == ({"loss": 2.0}, {"loss": 1.0})
    assert (resumed.take_means(2), resumed.take_epoch_means()) == ({"loss": 3.0}, {"loss": 2.5})
    assert resumed.take_epoch_means() == {}, "the next epoch begins"


def test_a_lap_begins_with_the_last_call() -> None:
    meter = Meter(("loss", "min"))
    time.sleep(0.05)
    begin = time.monotonic()
    first = meter.lap_seconds()
    second = meter.lap_seconds()
    assert first >= 0.05
    assert 0 <= second <= time.monotonic() - begin
