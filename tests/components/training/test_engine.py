"""A fit follows its options: early stopping, schedules, averages, precisions and few examples; it refuses others."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from components import optimizers, schedules
from components.errors import Refusal
from components.models.lenet import LeNet
from components.models.resnet import ResNet
from components.models.softmax import Softmax
from components.runs import journal
from components.tasks.classification import Classification
from components.training import checkpoint, engine, evaluation
from components.training.peers import Peers
from components.training.task import Shard, State
from tests.components.training.small_fits import feeds, spec, tasks


def test_early_stopping_keeps_the_best_weights(digits: Path) -> None:
    train, test = feeds(digits)
    task = Classification(Softmax, partial(optimizers.sgd, lr=0.5, momentum=0.9))
    outcome = engine.fit(task, spec(digits), train, test, epochs=60, batch=50, patience=4)
    assert outcome.scores["accuracy"] > 0.85
    assert outcome.epochs < 60
    again, _ = evaluation.evaluate(task, outcome.state, test)
    assert again == outcome.scores


def lines(folder: Path, name: str) -> list[float]:
    """Return the values of one metric in a run's journal, in order."""
    return [metrics.values[name] for metrics in journal.read_metrics(folder) if name in metrics.values]


def test_early_stopping_follows_the_scores(digits: Path, tmp_path: Path) -> None:
    train, test = feeds(digits)
    task = Classification(Softmax, partial(optimizers.sgd, lr=2.0, momentum=0.9))
    outcome = engine.fit(task, spec(digits), train, test, tmp_path, epochs=40, batch=100, patience=3)
    scores = lines(tmp_path, "validation/accuracy")
    best = max(range(len(scores)), key=lambda epoch: (scores[epoch], -epoch))
    assert len(scores) == outcome.epochs == best + 1 + 3 < 40
    assert outcome.scores["accuracy"] == scores[best]


def test_epoch_means_and_rates_in_the_journal(digits: Path, tmp_path: Path) -> None:
    train, _ = feeds(digits)
    schedule = partial(schedules.cosine, warmup=0.2)
    engine.fit(tasks("lenet"), spec(digits), train, None, tmp_path, epochs=2, batch=60, schedule=schedule, log_every=1)
    losses, means = lines(tmp_path, "train/loss"), lines(tmp_path, "epoch/loss")
    assert means == pytest.approx([np.mean(losses[:8]), np.mean(losses[8:])], rel=1e-6)
    assert lines(tmp_path, "learning_rate") == pytest.approx([0.003 * schedule(step, 16) for step in range(16)])


def test_the_moving_average_follows_its_recurrence(digits: Path) -> None:
    train, test = feeds(digits)

    def after(steps: int, ema: float | None = None) -> tuple[State, dict]:
        fit = {"epochs": 1, "batch": 100, "until": steps, "ema": ema}
        state = engine.fit(tasks("lenet"), spec(digits), train, **fit).state
        return state, {name: value.double() for name, value in state.modules["net"].state_dict().items()}

    _, expected = after(0)
    for step in range(1, 5):
        _, weights = after(step)
        expected = {name: 0.8 * value + 0.2 * weights[name] for name, value in expected.items()}
    state, _ = after(4, ema=0.8)
    average = state.averages["net"].state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(average[name].double(), value, rtol=1e-5, atol=1e-7)
    assert (
        evaluation.evaluate(tasks_set_up(digits), state, test)[0]
        == evaluation.evaluate(tasks_set_up(digits), State(state.averages), test)[0]
    )


def tasks_set_up(digits: Path) -> Classification:
    """Return a task that knows the statistics of the pictures, as it does after `setup`."""
    task = tasks("lenet")
    task.setup(spec(digits))
    return task


@pytest.mark.parametrize("options", [{"precision": "bfloat16"}, {"channels_last": False}])
def test_other_precisions_and_layouts_learn_too(options: dict, digits: Path) -> None:
    train, test = feeds(digits)
    schedule = partial(schedules.cosine, warmup=0.1)
    outcome = engine.fit(tasks("lenet"), spec(digits), train, test, epochs=24, batch=25, schedule=schedule, **options)
    assert outcome.scores["accuracy"] > 0.7


@pytest.mark.slow
def test_a_compiled_network_learns_the_same(digits: Path, tmp_path: Path) -> None:
    train, test = feeds(digits)
    scores = [
        engine.fit(tasks("resnet"), spec(digits), train, test, epochs=2, batch=50, ema=0.9, compile=compile).scores
        for compile in (False, True)
    ]
    assert scores[0]["loss"] == pytest.approx(scores[1]["loss"], rel=0.2)


def test_evaluation_neither_augments_nor_changes_the_state(digits: Path) -> None:
    train, test = feeds(digits)
    task = tasks("lenet")
    outcome = engine.fit(task, spec(digits), train, epochs=1, batch=100)
    before = {k: v.clone() for k, v in checkpoint.pack_state(outcome.state)[0].items()}
    first, first_predictions = evaluation.evaluate(task, outcome.state, test)
    second, second_predictions = evaluation.evaluate(task, outcome.state, test)
    assert first == second
    assert np.array_equal(first_predictions["probability"], second_predictions["probability"])
    assert all(torch.equal(v, before[k]) for k, v in checkpoint.pack_state(outcome.state)[0].items())


def test_a_diverging_run_stops_with_the_step_and_a_remedy(digits: Path, tmp_path: Path) -> None:
    train, test = feeds(digits)
    task = Classification(partial(ResNet, widths=[8], blocks=1, stem="cifar"), partial(optimizers.sgd, lr=1e18))
    with pytest.raises(Refusal, match=r"step \d+: the loss became (nan|inf).*learning rate"):
        engine.fit(task, spec(digits), train, test, tmp_path, epochs=3, batch=50, log_every=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 2, "shards": 4}, "smaller than fit.shards"),
        ({"batch": 501}, "larger than the 500"),
        ({"patience": 2}, "validation"),
        ({"keep": "best"}, "validation"),
        ({"noise_scale": True}, "fit.noise_scale.*set fit.shards to 2"),
        ({"peers": Peers(rank=0, size=3), "shards": 2}, "3 workers but fit.shards is 2"),
    ],
)
def test_impossible_settings_are_refused(options: dict, message: str, digits: Path) -> None:
    with pytest.raises(Refusal, match=message):
        engine.fit(tasks("lenet"), spec(digits), feeds(digits)[0], **options)


class Crowned(Classification):
    """A task whose `finish` changes every prediction."""

    def finish(self, state: State, over) -> None:
        with torch.no_grad():
            state.modules["net"].head.bias[3] += 100


@pytest.mark.parametrize("keep", ["last", "best"])
def test_scores_are_those_after_finish(keep: str, digits: Path, tmp_path: Path) -> None:
    """The scores of a fit, and the last line of its journal, are those of the exported model."""
    task, (train, test) = Crowned(Softmax, partial(optimizers.sgd, lr=0.1)), feeds(digits)
    options = {"epochs": 2, "batch": 50, "keep": keep}
    outcomes = [engine.fit(task, spec(digits), train, test, tmp_path, **options) for _ in range(2)]
    scores, predictions = evaluation.evaluate(task, outcomes[0].state, test)
    assert set(predictions["label"]) == {3}
    assert outcomes[0].scores == outcomes[1].scores == scores
    assert journal.read_metrics(tmp_path)[-1].values == {f"validation/{name}": value for name, value in scores.items()}


def test_a_few_examples_repeat_until_the_epoch_is_as_long(digits: Path) -> None:
    """Train on the first 70 examples and count how often each is used in an epoch."""
    train, test = feeds(digits)
    seen_rows: list[np.ndarray] = []

    class Recording(Classification):
        def loss(self, state: State, shard: Shard):
            seen_rows.append(shard.batch["row"].numpy())
            return super().loss(state, shard)

    task = Recording(LeNet, partial(optimizers.sgd, lr=0.01))
    engine.fit(task, spec(digits), train, test, batch=50, epochs=1, examples=70)
    rows = np.concatenate(seen_rows)
    assert len(rows) == len(train) // 50 * 50
    counts = np.bincount(rows, minlength=len(train))
    assert counts[70:].sum() == 0
    assert counts[:70].min() >= len(train) // 70 - 50
    with pytest.raises(Refusal, match=r"fit\.examples: 100000 are more than the"):
        engine.fit(task, spec(digits), train, test, examples=100_000)
