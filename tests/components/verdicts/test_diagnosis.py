"""Check each verdict on synthetic curves, and on small trainings that fail in the way it names."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy

from components import optimizers
from components.data.digits import Digits
from components.models.mlp import MLP
from components.models.softmax import Softmax
from components.search.trials import Trial
from components.storage.feed import Feed
from components.storage.store import Store
from components.tasks.classification import Classification
from components.training import engine, evaluation
from components.training.peers import Peers
from components.verdicts.diagnosis import (
    REMEDIES,
    TOLERANCE,
    Evidence,
    comparable_loss,
    diagnose,
    entropy,
    is_rate,
    trivial_loss,
)
from pipelines.stage.diagnoses import diagnose_trials
from pipelines.workers import augmentation, preparation, scoring, training

LN10 = math.log(10)
CASES = {
    "nothing is wrong": ("fine", Evidence(0.02, 0.1, 0.12, LN10)),
    "too small": ("model bias", Evidence(1.1, 1.15, 1.2, LN10, (2.0, 1.5, 1.2, 1.1, 1.1, 1.1, 1.1))),
    "a shallower model is better": ("optimisation", Evidence(1.1, 1.2, trivial=LN10, smaller={"shallow": 0.1})),
    "has not started": ("optimisation", Evidence(2.3, 2.3, trivial=LN10)),
    "not finished": ("optimisation", Evidence(1.1, 1.2, trivial=LN10, training_curve=(2.2, 2.0, 1.8, 1.6, 1.4, 1.1))),
    "rose again": ("optimisation", Evidence(1.1, 1.2, trivial=LN10, training_curve=(2.2, 0.7, 0.6, 1.4, 1.1))),
    "the gradient explodes": ("optimisation", Evidence(1.1, 1.2, trivial=LN10, gradient_norms=(1.0, 1.1, 0.9, 80.0))),
    "memorised": ("over-fitting", Evidence(0.01, 0.6, 0.65, LN10)),
    "memorised, no validation": ("over-fitting", Evidence(0.01, None, 0.6, LN10)),
    "another distribution": ("mismatch", Evidence(0.05, 0.1, 1.5, LN10)),
    "not a number": ("not diagnosed", Evidence(math.nan, 0.1)),
}


@pytest.mark.parametrize("case", CASES)
def test_each_verdict_from_its_losses(case: str) -> None:
    verdict, evidence = CASES[case]
    diagnosis = diagnose(evidence)
    assert diagnosis.verdict == verdict
    assert diagnosis.remedies == REMEDIES[verdict]
    assert all(remedy in str(diagnosis) for remedy in diagnosis.remedies)
    assert verdict in ("fine", "not diagnosed") or len(diagnosis.remedies) >= 2


def test_the_curve_says_where_to_stop() -> None:
    diagnosis = diagnose(Evidence(0.01, 0.9, trivial=LN10, validation_curve=(1.0, 0.5, 0.4, 0.6, 0.9)))
    assert any("lowest, 0.4, after evaluation 3 of 5" in reason for reason in diagnosis.reasons)


def test_a_smaller_model_that_is_no_better_leaves_model_bias() -> None:
    assert diagnose(Evidence(1.1, 1.2, trivial=LN10, smaller={"shallow": 1.3})).verdict == "model bias"


losses = st.floats(0, 5)


@given(losses, losses, losses, st.floats(0.1, 5), losses)
def test_the_parts_add_up_and_the_largest_names_the_verdict(
    train: float, validation: float, test: float, trivial: float, smaller: float
) -> None:
    diagnosis = diagnose(Evidence(train, validation, test, trivial, smaller={"smaller": smaller}))
    assert sum(diagnosis.parts.values()) * trivial == pytest.approx(test, abs=1e-6)
    largest = max(diagnosis.parts.values())
    if largest <= TOLERANCE:
        assert diagnosis.verdict == "fine"
    else:
        assert diagnosis.parts[diagnosis.verdict] == largest


@given(st.lists(st.integers(1, 100), min_size=1, max_size=8))
def test_a_constant_prediction_loses_the_entropy(counts: list[int]) -> None:
    assert entropy(counts) == pytest.approx(scipy_entropy(counts), abs=1e-9)


def test_losses_and_scores_up_to_one_can_be_split() -> None:
    assert comparable_loss({"loss": 0.3, "accuracy": 0.9}, ("accuracy", "max")) == 0.3
    assert comparable_loss({"map50": 0.75}, ("map50", "max")) == pytest.approx(0.25)
    assert comparable_loss({"fid": 12.0}, ("fid", "min")) is None


def test_the_loss_is_the_score_that_was_trained() -> None:
    scores = {"mse": 0.4, "mae": 0.5, "r2": 0.6}
    assert comparable_loss(scores, ("mse", "min"), "mae") == 0.5
    assert comparable_loss(scores, ("mse", "min"), None) == 0.4
    assert not is_rate(scores, ("mse", "min"), None)
    assert is_rate({"map50": 0.75}, ("map50", "max"))
    assert not is_rate({"loss": 0.3, "accuracy": 0.9}, ("accuracy", "max"))


def test_a_model_without_parameters_has_no_trouble_with_optimisation() -> None:
    """Check a kernel of fixed width, which predicts no better than a constant."""
    evidence = Evidence(1.0, 1.0, trivial=1.0, trained=False)
    assert diagnose(evidence).verdict == "model bias"
    assert diagnose(replace(evidence, trained=True)).verdict == "optimisation"


# ------------------------------------------------------------------------------------------------ at the edge
# The constant prediction's loss is 1, so that losses are fractions of it. Each pair is just within and just beyond.


@pytest.mark.parametrize(
    ("evidence", "verdict"),
    [
        (Evidence(0.1, 0.1), "fine"),
        (Evidence(0.1001, 0.1001), "model bias"),
        (Evidence(0.0, 0.1), "fine"),
        (Evidence(0.0, 0.1001), "over-fitting"),
        (Evidence(0.0, 0.0, 0.1), "fine"),
        (Evidence(0.0, 0.0, 0.1001), "mismatch"),
        (Evidence(0.9499, 0.9499), "model bias"),
        (Evidence(0.95, 0.95), "optimisation"),
        (Evidence(0.5, trivial=0.0), "not diagnosed"),
        (Evidence(0.5, trivial=-1.0), "not diagnosed"),
    ],
)
def test_limits_of_the_parts(evidence: Evidence, verdict: str) -> None:
    assert diagnose(evidence).verdict == verdict


# Ten epochs: the last fifth begins after the eighth.
FALLING = [
    ((1.0,) * 7 + (0.05, 0.0, 0.0), False),
    ((1.0,) * 7 + (0.0501, 0.0, 0.0), True),
    ((1.0,) * 7 + (0.0, 0.0, 0.0), False),
    ((1.0,) * 6 + (0.5, 0.05, 0.05, 0.0), False),
    ((0.8, 0.6, 0.4, 0.2), False),  # fewer than five epochs have no last fifth
    ((0.8, 0.6, 0.4, 0.3, 0.2), True),
    ((0.8, 0.6, 0.4, 0.2, 0.2), False),
]
RISEN = [((0.0, 0.1), False), ((0.0, 0.1001), True), ((0.3, 0.2, 0.3), False), ((0.3, 0.2, 0.3001), True)]


@pytest.mark.parametrize(
    ("curve", "sign", "text"),
    [(*case, "still falling") for case in FALLING] + [(*case, "the steps are too large") for case in RISEN],
)
def test_limits_of_the_training_curve(curve: tuple[float, ...], sign: bool, text: str) -> None:
    diagnosis = diagnose(Evidence(0.5, 0.5, training_curve=curve))
    assert diagnosis.verdict == ("optimisation" if sign else "model bias")
    assert any(text in reason for reason in diagnosis.reasons) is sign


def test_the_figures_of_a_falling_loss_are_those_of_the_last_fifth() -> None:
    reasons = diagnose(Evidence(0.5, 0.5, training_curve=(0.9, 0.8, 0.7, 0.6, 0.5))).reasons
    assert any("still falling: 0.6 to 0.5 in" in reason for reason in reasons)


@pytest.mark.parametrize(("last", "verdict"), [(10.0, "model bias"), (10.1, "optimisation")])
def test_a_gradient_explodes_above_ten_times_its_median(last: float, verdict: str) -> None:
    diagnosis = diagnose(Evidence(0.5, 0.5, gradient_norms=(3.0, 0.5, 1.0, 1.0, last)))
    assert diagnosis.verdict == verdict
    assert any("ended at 10.1, 10 times its median" in reason for reason in diagnosis.reasons) is (last == 10.1)


@pytest.mark.parametrize(("smaller", "named"), [(0.9, False), (0.8999, True)])
def test_a_smaller_model_is_named_where_it_is_better_by_more_than_the_tolerance(smaller: float, named: bool) -> None:
    diagnosis = diagnose(Evidence(1.0, 1.0, smaller={"shallow": smaller, "other": 1.0}))
    assert diagnosis.verdict == "optimisation", "it is no better than a constant"
    assert any("shallow, a model of at most this size" in reason for reason in diagnosis.reasons) is named


@pytest.mark.parametrize(("last", "named"), [(1.1, False), (1.1001, True)])
def test_the_best_epoch_is_named_where_the_loss_rose_by_a_tenth(last: float, named: bool) -> None:
    diagnosis = diagnose(Evidence(0.0, 1.0, validation_curve=(2.0, 1.0, last)))
    assert diagnosis.verdict == "over-fitting"
    assert any("after evaluation 2 of 3" in reason for reason in diagnosis.reasons) is named


@pytest.mark.parametrize(("score", "loss"), [(0.0, 1.0), (1.0, 0.0), (1.001, None), (-0.001, None)])
def test_scores_from_0_to_1_have_a_loss(score: float, loss: float | None) -> None:
    assert comparable_loss({"map50": score}, ("map50", "max")) == loss
    assert comparable_loss({"map50": score}, ("map50", "min")) is None


def test_labels_of_several_dimensions_have_no_best_constant(prepared: dict[str, Path]) -> None:
    split = Store(prepared["many"] / "prepared").split("train")
    assert trivial_loss(split) == pytest.approx(LN10, abs=0.01)
    assert "without a validation split" in diagnose(Evidence(0.0, None, 1.0)).reasons[-1]
    assert "no smaller model" in diagnose(Evidence(0.5, 0.5)).reasons[-1]
    assert "no smaller model" not in diagnose(Evidence(0.5, 0.5, smaller={"shallow": 0.9})).reasons[-1]


# ------------------------------------------------------------------------------------------------ real trainings


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("diagnosis")
    for name, labels in (("many", 1000), ("few", 40)):
        preparation.write_data_set(Peers(), Digits(labels=labels, validation=300, size=8), root / name / "prepared")
        augmentation.write_statistics(Peers(), Store(root / name / "prepared"), root / name / "augmented")
    return {name: root / name for name in ("many", "few")}


def train_model(folder: Path, model: Any, epochs: int = 15, lr: float = 0.1, **more: Any) -> Evidence:
    """Train `model` and return its losses on the training, validation and test splits."""
    store, task = Store(folder / "prepared"), Classification(model, partial(optimizers.sgd, lr=lr, momentum=0.9))
    spec = training.read_spec(str(folder / "prepared"), str(folder / "augmented"))
    train, validation = Feed(store.split("train")), Feed(store.split("validation"))
    outcome = engine.fit(task, spec, train, validation, epochs=epochs, batch=20, evaluate_every=epochs)
    train_loss = scoring.training_scores(task, outcome.state, train, Peers())["loss"]
    test = evaluation.evaluate(task, outcome.state, Feed(store.split("test")))[0]["loss"]
    return Evidence(train_loss, outcome.scores["loss"], test, trivial_loss(store.split("train")) or 0.0, **more)


def test_a_linear_model_on_enough_digits_is_fine(prepared: dict[str, Path]) -> None:
    assert diagnose(train_model(prepared["many"], Softmax, lr=0.02)).verdict == "fine"


def test_a_bottleneck_of_one_unit_is_model_bias(prepared: dict[str, Path]) -> None:
    assert (
        diagnose(train_model(prepared["many"], partial(MLP, hidden=[1], dropout=0.0), lr=0.02)).verdict == "model bias"
    )


def test_a_stack_of_sigmoids_that_a_linear_model_beats_is_optimisation(prepared: dict[str, Path]) -> None:
    shallow = train_model(prepared["many"], Softmax, lr=0.02).train
    deep = partial(MLP, hidden=[32] * 5, activation="sigmoid", dropout=0.0)
    diagnosis = diagnose(train_model(prepared["many"], deep, smaller={"softmax": shallow}))
    assert diagnosis.verdict == "optimisation"
    assert any("softmax, a model of at most this size" in reason for reason in diagnosis.reasons)


def test_an_mlp_on_forty_labels_is_over_fitting(prepared: dict[str, Path]) -> None:
    assert (
        diagnose(train_model(prepared["few"], partial(MLP, dropout=0.0), epochs=40, lr=0.02)).verdict == "over-fitting"
    )


class ShiftedTest(Digits):
    """Digits whose test pictures alone are shifted, by two of eight pixels."""

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        for example in super().examples(split, part):
            shifted = np.roll(example["image"], 2 if split == "test" else 0, axis=1)
            yield example | {"image": shifted}


def test_shifted_test_pictures_are_a_mismatch(tmp_path: Path) -> None:
    preparation.write_data_set(Peers(), ShiftedTest(labels=1000, validation=300, size=8), tmp_path / "prepared")
    augmentation.write_statistics(Peers(), Store(tmp_path / "prepared"), tmp_path / "augmented")
    assert diagnose(train_model(tmp_path, Softmax, lr=0.02)).verdict == "mismatch"


# ------------------------------------------------------------------------------------------------ a search's trials


def test_a_trial_is_compared_with_smaller_models_of_its_search() -> None:
    def trial(number: int, parameters: int, train: float, held_out: float) -> Trial:
        scores = {"accuracy": 0.5, "loss": held_out, "train_loss": train, "parameters": float(parameters)}
        return Trial("trials", number, {"model": number}, [scores], finished=True)

    trials = [trial(0, 10, 0.1, 0.15), trial(1, 100, 1.2, 1.25), trial(2, 1000, 0.01, 0.8), Trial("trials", 3, {})]
    trials[3].diverged = "step 3: the loss became nan"
    diagnoses = diagnose_trials(trials, ("accuracy", "max"), LN10)
    verdicts = [diagnosis.verdict for diagnosis in diagnoses]
    assert verdicts == ["fine", "optimisation", "over-fitting", "optimisation"]
    assert "model=0, a model of at most this size" in str(diagnoses[1])


def test_trials_with_equal_descriptions_are_distinguished() -> None:
    key = "task.optimizer.lr"
    tried = [(0.012341, 0.1, 10.0), (0.012343, 5.0, 10.0), (0.1, 1.2, 100.0)]  # rate, loss, parameters
    trials = [
        Trial("trials", number, {key: rate}, [{"loss": loss, "train_loss": loss, "parameters": count}], finished=True)
        for number, (rate, loss, count) in enumerate(tried)
    ]
    diagnosis = diagnose_trials(trials, ("loss", "min"), LN10)[2]
    assert diagnosis.verdict == "optimisation"
    assert "trial 00, lr=0.0123, a model of at most this size, reaches 0.1 " in str(diagnosis)


def test_regularisation_does_not_count_as_optimisation() -> None:
    def trial(number: int, values: dict[str, float], train: float) -> Trial:
        scores = {"accuracy": 0.5, "loss": train, "train_loss": train, "parameters": 10.0}
        return Trial("trials", number, values, [scores], finished=True)

    for key, verdict in (("task.optimizer.lr", "optimisation"), ("task.optimizer.weight_decay", "model bias")):
        trials = [trial(0, {key: 0.1}, 0.1), trial(1, {key: 1.0}, 1.0)]
        diagnoses = diagnose_trials(trials, ("accuracy", "max"), LN10)
        assert [diagnosis.verdict for diagnosis in diagnoses] == ["fine", verdict]


@pytest.mark.parametrize("diverged", [math.nan, -math.inf])
def test_a_smaller_model_that_diverged_does_not_hide_a_better_one(diverged: float) -> None:
    smaller = {"diverged": diverged, "shallow": 0.1}
    assert diagnose(Evidence(1.1, 1.2, trivial=LN10, smaller=smaller)).verdict == "optimisation"
    assert diagnose(Evidence(1.1, 1.2, trivial=LN10, smaller={"diverged": diverged})).verdict == "model bias"
