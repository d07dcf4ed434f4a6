"""Each verdict from made-up curves, and from small trainings that go wrong in the way it names."""

from __future__ import annotations

import math
from collections.abc import Iterator
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
from components.training import engine
from components.training.peers import Peers
from components.verdicts.diagnosis import (
    REMEDIES,
    TOLERANCE,
    Evidence,
    comparable_loss,
    diagnose,
    entropy,
    trivial_loss,
)
from pipelines import augment, prepare
from pipelines.stage.diagnoses import diagnose_trials
from pipelines.workers import training

LN10 = math.log(10)
CASES = {
    "nothing is wrong": ("fine", Evidence(0.02, 0.1, 0.12, LN10)),
    "too small": ("model bias", Evidence(1.1, 1.15, 1.2, LN10, (2.0, 1.5, 1.2, 1.1, 1.1, 1.1, 1.1))),
    "the shallow one is better": ("optimisation", Evidence(1.1, 1.2, trivial=LN10, smaller={"shallow": 0.1})),
    "has not begun": ("optimisation", Evidence(2.3, 2.3, trivial=LN10)),
    "not done": ("optimisation", Evidence(1.1, 1.2, trivial=LN10, training_curve=(2.2, 2.0, 1.8, 1.6, 1.4, 1.1))),
    "thrown back": ("optimisation", Evidence(1.1, 1.2, trivial=LN10, training_curve=(2.2, 0.7, 0.6, 1.4, 1.1))),
    "steps explode": ("optimisation", Evidence(1.1, 1.2, trivial=LN10, gradient_norms=(1.0, 1.1, 0.9, 80.0))),
    "learned by heart": ("over-fitting", Evidence(0.01, 0.6, 0.65, LN10)),
    "learned by heart, no validation": ("over-fitting", Evidence(0.01, None, 0.6, LN10)),
    "another world": ("mismatch", Evidence(0.05, 0.1, 1.5, LN10)),
    "no number": ("not diagnosed", Evidence(math.nan, 0.1)),
}


@pytest.mark.parametrize("case", CASES)
def test_each_verdict_from_its_losses(case: str) -> None:
    verdict, evidence = CASES[case]
    found = diagnose(evidence)
    assert found.verdict == verdict
    assert found.remedies == REMEDIES[verdict]
    assert all(remedy in str(found) for remedy in found.remedies)
    assert verdict in ("fine", "not diagnosed") or len(found.remedies) >= 2


def test_the_curve_says_where_to_stop() -> None:
    found = diagnose(Evidence(0.01, 0.9, trivial=LN10, validation_curve=(1.0, 0.5, 0.4, 0.6, 0.9)))
    assert any("lowest, 0.4, after evaluation 3 of 5" in reason for reason in found.reasons)


def test_a_comparison_with_a_model_that_is_no_better_blames_the_model() -> None:
    assert diagnose(Evidence(1.1, 1.2, trivial=LN10, smaller={"shallow": 1.3})).verdict == "model bias"


losses = st.floats(0, 5)


@given(losses, losses, losses, st.floats(0.1, 5), losses)
def test_the_parts_add_up_and_the_greatest_one_names_it(
    train: float, validation: float, test: float, trivial: float, smaller: float
) -> None:
    found = diagnose(Evidence(train, validation, test, trivial, smaller={"smaller": smaller}))
    assert sum(found.parts.values()) * trivial == pytest.approx(test, abs=1e-6)
    greatest = max(found.parts.values())
    assert found.verdict == "fine" if greatest <= TOLERANCE else found.parts[found.verdict] == greatest


@given(st.lists(st.integers(1, 100), min_size=1, max_size=8))
def test_the_constant_answer_loses_the_entropy(counts: list[int]) -> None:
    assert entropy(counts) == pytest.approx(scipy_entropy(counts), abs=1e-9)


def test_what_can_be_split() -> None:
    assert comparable_loss({"loss": 0.3, "accuracy": 0.9}, ("accuracy", "max")) == 0.3
    assert comparable_loss({"map50": 0.75}, ("map50", "max")) == pytest.approx(0.25)
    assert comparable_loss({"fid": 12.0}, ("fid", "min")) is None


# ------------------------------------------------------------------------------------------------ real trainings


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("diagnosis")
    for name, labels in (("many", 1000), ("few", 40)):
        prepare.write_data_set(Peers(), Digits(labels=labels, validation=300, size=8), root / name / "prepared")
        augment.write_statistics(Peers(), Store(root / name / "prepared"), root / name / "augmented")
    return {name: root / name for name in ("many", "few")}


def evidence(folder: Path, model: Any, epochs: int = 15, lr: float = 0.1, **more: Any) -> Evidence:
    """Trains `model` for real: its losses on examples it learned from and on the validation split."""
    store, task = Store(folder / "prepared"), Classification(model, partial(optimizers.sgd, lr=lr, momentum=0.9))
    spec = training.read_spec(str(folder / "prepared"), str(folder / "augmented"))
    train, validation = Feed(store.split("train")), Feed(store.split("validation"))
    outcome = engine.fit(task, spec, train, validation, epochs=epochs, batch=20, evaluate_every=epochs)
    seen = training.training_scores(task, outcome.state, train, Peers())["loss"]
    test = engine.evaluate(task, outcome.state, Feed(store.split("test")))[0]["loss"]
    return Evidence(seen, outcome.scores["loss"], test, trivial_loss(store.split("train")) or 0.0, **more)


def test_a_linear_model_of_enough_digits_is_fine(prepared: dict[str, Path]) -> None:
    assert diagnose(evidence(prepared["many"], Softmax, lr=0.02)).verdict == "fine"


def test_a_bottleneck_of_one_unit_is_model_bias(prepared: dict[str, Path]) -> None:
    assert diagnose(evidence(prepared["many"], partial(MLP, hidden=[1], dropout=0.0), lr=0.02)).verdict == "model bias"


def test_a_stack_of_sigmoids_that_a_linear_model_beats_is_optimisation(prepared: dict[str, Path]) -> None:
    shallow = evidence(prepared["many"], Softmax, lr=0.02).train
    deep = partial(MLP, hidden=[32] * 5, activation="sigmoid", dropout=0.0)
    found = diagnose(evidence(prepared["many"], deep, smaller={"softmax": shallow}))
    assert found.verdict == "optimisation"
    assert any("softmax, no larger a model" in reason for reason in found.reasons)


def test_an_mlp_on_forty_labels_is_over_fitting(prepared: dict[str, Path]) -> None:
    assert diagnose(evidence(prepared["few"], partial(MLP, dropout=0.0), epochs=40, lr=0.02)).verdict == "over-fitting"


class Moved(Digits):
    """Digits whose test pictures, and no others, were taken by a camera that moved: by two pixels of eight."""

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        for example in super().examples(split, part):
            shifted = np.roll(example["image"], 2 if split == "test" else 0, axis=1)
            yield example | {"image": shifted}


def test_pictures_of_another_camera_are_a_mismatch(tmp_path: Path) -> None:
    prepare.write_data_set(Peers(), Moved(labels=1000, validation=300, size=8), tmp_path / "prepared")
    augment.write_statistics(Peers(), Store(tmp_path / "prepared"), tmp_path / "augmented")
    assert diagnose(evidence(tmp_path, Softmax, lr=0.02)).verdict == "mismatch"


# ------------------------------------------------------------------------------------------------ a search's trials


def test_a_trial_is_compared_with_the_smaller_ones_of_its_search() -> None:
    def trial(number: int, parameters: int, train: float, held_out: float) -> Trial:
        scores = {"accuracy": 0.5, "loss": held_out, "train_loss": train, "parameters": float(parameters)}
        return Trial("trials", number, {"model": number}, [scores], finished=True)

    trials = [trial(0, 10, 0.1, 0.15), trial(1, 100, 1.2, 1.25), trial(2, 1000, 0.01, 0.8), Trial("trials", 3, {})]
    trials[3].diverged = "step 3: the loss became nan"
    found = diagnose_trials(trials, ("accuracy", "max"), LN10)
    assert [one.verdict for one in found] == ["fine", "optimisation", "over-fitting", "optimisation"]
    assert "model=0, no larger a model" in str(found[1])


def test_trials_that_print_alike_are_told_apart() -> None:
    key = "task.optimizer.lr"
    tried = [(0.012341, 0.1, 10.0), (0.012343, 5.0, 10.0), (0.1, 1.2, 100.0)]  # rate, loss, parameters
    trials = [
        Trial("trials", number, {key: rate}, [{"loss": loss, "train_loss": loss, "parameters": count}], finished=True)
        for number, (rate, loss, count) in enumerate(tried)
    ]
    found = diagnose_trials(trials, ("loss", "min"), LN10)[2]
    assert found.verdict == "optimisation"
    assert "trial 00, lr=0.0123, no larger a model, gets 0.1 " in str(found)


def test_what_holds_a_model_back_on_purpose_is_no_trouble_of_the_optimisation() -> None:
    def trial(number: int, values: dict[str, float], train: float) -> Trial:
        scores = {"accuracy": 0.5, "loss": train, "train_loss": train, "parameters": 10.0}
        return Trial("trials", number, values, [scores], finished=True)

    for key, verdict in (("task.optimizer.lr", "optimisation"), ("task.optimizer.weight_decay", "model bias")):
        found = diagnose_trials([trial(0, {key: 0.1}, 0.1), trial(1, {key: 1.0}, 1.0)], ("accuracy", "max"), LN10)
        assert [one.verdict for one in found] == ["fine", verdict]
