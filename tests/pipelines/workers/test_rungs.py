"""Test one rung of a trial: a fold, a seed or an epoch, scored on held-out examples."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.data.digits import Digits
from components.recipes import recipe
from components.runs import journal
from components.search.objective import Rung
from components.search.trials import Trial
from components.storage.dataset import prepare_dataset
from components.storage.feed import Feed
from components.storage.moments import compute_moments
from components.storage.store import Store
from components.training import checkpoint, engine
from components.training.task import Task
from pipelines.fit import referenced_paths
from pipelines.stage import trial_curves
from pipelines.workers.records import TrialSetup
from pipelines.workers.rungs import score_epoch, score_fold, score_seed
from pipelines.workers.training import read_spec

SECTION: dict[str, Any] = {
    "task": {
        "use": "tasks.classification.Classification",
        "model": {"use": "models.mlp.MLP", "hidden": [8], "dropout": 0.1},
        "optimizer": {"use": "optimizers.sgd", "lr": 0.1},
    },
    "fit": {"epochs": 2, "batch": 20, "shards": 2},
}


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> TrialSetup:
    """Prepare 100 digits to train on and 60 for validation."""
    folder = tmp_path_factory.mktemp("trial")
    prepare_dataset(Digits(labels=100, validation=60), folder / "prepared")
    (folder / "augmented").mkdir()
    split = Store(folder / "prepared").split("train")
    (folder / "augmented" / "statistics.json").write_text(json.dumps(compute_moments(split, 0, 1).finish()))
    return TrialSetup(SECTION, f"{folder}/prepared", f"{folder}/augmented", seed=3)


def fit_directly(
    setup: TrialSetup, section: dict[str, Any], seed: int, folder: Path | None = None, **changes: Any
) -> engine.Outcome:
    """Train once on the training split, scored on the validation split, without a search."""
    store = Store(setup.prepared)
    return engine.fit(
        recipe.build(section["task"], Task),
        read_spec(setup.prepared, setup.augmented),
        Feed(store.split("train")),
        Feed(store.split("validation")),
        folder,
        seed=seed,
        **recipe.resolve_arguments(section["fit"] | changes, "training.engine.fit"),
    )


def test_each_rung_is_a_seed_scored_on_the_validation_split(setup: TrialSetup) -> None:
    values = {"task.optimizer.lr": 0.2}
    rungs = [score_seed(Rung(values, number), setup) for number in range(2)]
    section = recipe.overlay(SECTION, values)
    for number, scores in enumerate(rungs):
        assert fit_directly(setup, section, seed=3 + number).scores.items() <= scores.items()
    assert rungs[0]["loss"] != rungs[1]["loss"]


def test_folds_do_not_read_the_validation_split(setup: TrialSetup, tmp_path: Path) -> None:
    scores = score_fold(Rung({}, 0), setup, count=4)
    for file in Path(setup.prepared).glob("validation-*"):
        file.rename(tmp_path / file.name)
    assert score_fold(Rung({}, 0), setup, count=4) == scores
    assert scores["accuracy"] * 25 == pytest.approx(round(scores["accuracy"] * 25)), "of 25 held-out examples"
    for file in tmp_path.glob("validation-*"):
        file.rename(Path(setup.prepared) / file.name)


HIGH_RATE = {"task.optimizer.lr": 3.0}  # accuracy also falls


def score_epochs(setup: TrialSetup, folder: Path, numbers: list[int], **fit: Any) -> list[dict[str, float]]:
    """Score epochs of a fit of four with a high learning rate."""
    changed = replace(setup, section={**SECTION, "fit": SECTION["fit"] | fit})
    return [score_epoch(Rung(HIGH_RATE, number), changed, epochs=4, folder=str(folder)) for number in numbers]


@pytest.mark.parametrize("fit", [{}, {"keep": "best"}, {"schedule": {"use": "schedules.cosine", "warmup": 0.1}}])
def test_epoch_after_epoch_equals_one_fit(setup: TrialSetup, tmp_path: Path, fit: dict[str, Any]) -> None:
    rungs = score_epochs(setup, tmp_path / "trial", [0, 1, 2, 3], **fit)
    fit_directly(setup, recipe.overlay(SECTION, HIGH_RATE), 3, tmp_path / "direct", **fit, epochs=4)
    values = [metrics.values for metrics in journal.read_metrics(tmp_path / "direct")]
    accuracies = [line["validation/accuracy"] for line in values if "validation/accuracy" in line]
    best = [max(accuracies[: count + 1]) for count in range(4)]
    assert [scores["accuracy"] for scores in rungs] == (best if "keep" in fit else accuracies)
    assert best != accuracies
    assert rungs[0].keys() > {"loss", "train_accuracy", "parameters"}
    weights, direct_weights = (checkpoint.load_latest(tmp_path / name)[0] for name in ("trial", "direct"))
    assert all(torch.equal(value, direct_weights[name]) for name, value in weights.items())


def test_an_epoch_scores_the_same_with_and_without_checkpoint(setup: TrialSetup, tmp_path: Path) -> None:
    rungs = score_epochs(setup, tmp_path / "trial", [0, 1, 2])
    assert score_epochs(setup, tmp_path / "trial", [2]) == rungs[2:], "killed between the epoch and its record"
    assert score_epochs(setup, tmp_path / "another", [2]) == rungs[2:]


def test_epochs_leave_one_curve(setup: TrialSetup, tmp_path: Path) -> None:
    """Check that each line of the curve is in the table once, whatever the number of rungs."""
    watched = replace(setup, curves=str(tmp_path / "curves"))
    parts = score_epochs(watched, tmp_path / "trial", [0, 1])
    rows = trial_curves.read_curves([tmp_path / "curves"], [Trial("trials", 0, HIGH_RATE, parts, finished=True)])
    assert [row["epoch"] for row in rows if row["epoch/loss"]] == ["1.0", "2.0"]
    assert {row["rung"] for row in rows} == {0}


def test_patience_ends_a_trial_before_its_last_epoch(setup: TrialSetup, tmp_path: Path) -> None:
    rungs = score_epochs(setup, tmp_path, [0, 1, 2, 3], patience=1, ema=1.0)  # weights that never change
    assert len({scores["accuracy"] for scores in rungs}) == 1
    assert checkpoint.load_latest(tmp_path)[1]["progress"]["stopped"]


def test_a_result_depends_on_the_files_that_its_task_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("results/a/model").mkdir(parents=True)
    Path("mse").touch()
    task = {"use": "x.Y", "start": "results/a/model", "model": {"weights": "results/none"}, "criterion": "mse", "n": 3}
    assert referenced_paths(task) == ["results/a/model"]


def test_rungs_leave_curves_for_the_table_and_the_picture(setup: TrialSetup, tmp_path: Path) -> None:
    """Check that curves change no score, and that a picture shows a schedule's rates but not constant ones."""
    schedules = [{"use": "schedules.constant"}, {"use": "schedules.cosine"}]
    watched = replace(
        setup, curves=str(tmp_path / "curves"), section={**SECTION, "fit": SECTION["fit"] | {"log_every": 1}}
    )
    trials = []
    for number, schedule in enumerate(schedules):
        values = {"fit.schedule": schedule}
        parts = [score_fold(Rung(values, rung), watched, count=4) for rung in range(2)]
        assert parts[0] == score_fold(Rung(values, 0), setup, count=4)
        trials.append(Trial("trials", number, values, parts, finished=True))
    rows = trial_curves.read_curves([tmp_path / "curves"], trials)
    assert {(row["trial"], row["rung"]) for row in rows} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    losses = [float(row["train/loss"]) for row in rows if row["trial"] == 0 and row["step"] == "3"]
    figure = trial_curves.draw_trial_curves(rows, trials)
    assert figure is not None
    loss, rate = figure.axes
    assert loss.lines[0].get_ydata()[2] == pytest.approx(np.mean(losses))
    assert np.ptp(rate.lines[0].get_ydata()) == 0 < np.ptp(rate.lines[-1].get_ydata())
    alone = trial_curves.draw_trial_curves(rows, trials[:1])
    assert alone is not None
    assert len(alone.axes) == 1
    assert trial_curves.draw_trial_curves(rows, trials * 7) is None, "too many for one picture"
