"""A search's trial by itself: scored on a fold, with another seed or after an epoch on the validation split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from components.data.digits import Digits
from components.recipes import recipe
from components.runs import journal
from components.storage.dataset import prepare_dataset
from components.storage.feed import Feed
from components.storage.moments import compute_moments
from components.storage.store import Store
from components.training import checkpoint, engine
from pipelines.fit import referenced_paths
from pipelines.workers import rungs
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
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """100 digits to train on, 60 for validation."""
    folder = tmp_path_factory.mktemp("trial")
    prepare_dataset(Digits(labels=100, validation=60), folder / "prepared")
    (folder / "augmented").mkdir()
    split = Store(folder / "prepared").split("train")
    (folder / "augmented" / "statistics.json").write_text(json.dumps(compute_moments(split, 0, 1).finish()))
    return {"section": SECTION, "prepared": f"{folder}/prepared", "augmented": f"{folder}/augmented"}


def test_each_rung_is_a_seed_scored_on_the_validation_split(given: dict[str, Any]) -> None:
    found = [rungs.seed({"task.optimizer.lr": 0.2}, 1, rung, seed=3, **given) for rung in range(2)]
    section = recipe.overlay(SECTION, {"task.optimizer.lr": 0.2})
    store = Store(given["prepared"])
    for rung, scores in enumerate(found):
        outcome = engine.fit(
            recipe.build(section["task"]),
            read_spec(given["prepared"], given["augmented"]),
            Feed(store.split("train")),
            Feed(store.split("validation")),
            seed=3 + rung,
            **recipe.resolve_arguments(section["fit"]),
        )
        assert outcome.scores.items() <= scores.items()
    assert found[0]["loss"] != found[1]["loss"]


def test_with_folds_the_validation_split_is_not_looked_at(given: dict[str, Any], tmp_path: Path) -> None:
    scores = rungs.fold({}, 1, 0, seed=3, count=4, **given)
    for file in Path(given["prepared"]).glob("validation-*"):
        file.rename(tmp_path / file.name)
    assert rungs.fold({}, 1, 0, seed=3, count=4, **given) == scores
    assert scores["accuracy"] * 25 == pytest.approx(round(scores["accuracy"] * 25)), "of 25 held out"
    for file in tmp_path.glob("validation-*"):
        file.rename(Path(given["prepared"]) / file.name)


WILD = {"task.optimizer.lr": 3.0}  # accuracy falls, too


def epochs(given: dict[str, Any], folder: Path, rungs: list[int], **fit: Any) -> list[dict[str, float]]:
    given = given | {"section": {**SECTION, "fit": SECTION["fit"] | fit}}
    return [rungs.epoch(WILD, 1, rung, seed=3, epochs=4, folder=str(folder), **given) for rung in rungs]


@pytest.mark.parametrize("fit", [{}, {"keep": "best"}, {"schedule": {"use": "schedules.cosine", "warmup": 0.1}}])
def test_epoch_after_epoch_is_one_fit(given: dict[str, Any], tmp_path: Path, fit: dict[str, Any]) -> None:
    found = epochs(given, tmp_path / "trial", [0, 1, 2, 3], **fit)
    store = Store(given["prepared"])
    engine.fit(
        recipe.build(recipe.overlay(SECTION, WILD)["task"]),
        read_spec(given["prepared"], given["augmented"]),
        Feed(store.split("train")),
        Feed(store.split("validation")),
        tmp_path / "whole",
        seed=3,
        **recipe.resolve_arguments(SECTION["fit"] | fit | {"epochs": 4}),
    )
    lines = [metrics.values for metrics in journal.read_metrics(tmp_path / "whole")]
    seen = [line["validation/accuracy"] for line in lines if "validation/accuracy" in line]
    best = [max(seen[: count + 1]) for count in range(4)]
    assert [scores["accuracy"] for scores in found] == (best if "keep" in fit else seen)
    assert best != seen
    assert found[0].keys() > {"loss", "train_accuracy", "parameters"}
    ends = [checkpoint.load_latest(tmp_path / name) for name in ("trial", "whole")]
    assert all(torch.equal(value, ends[1][0][name]) for name, value in ends[0][0].items())


def test_an_epoch_whose_checkpoint_is_lost_or_noted_already_scores_the_same(
    given: dict[str, Any], tmp_path: Path
) -> None:
    found = epochs(given, tmp_path / "one", [0, 1, 2])
    assert epochs(given, tmp_path / "one", [2]) == found[2:], "killed after the epoch, before its scores were noted"
    assert epochs(given, tmp_path / "another", [2]) == found[2:]


def test_patience_ends_a_trial_before_its_epochs(given: dict[str, Any], tmp_path: Path) -> None:
    found = epochs(given, tmp_path, [0, 1, 2, 3], patience=1, ema=1.0)  # weights that never move
    assert len({scores["accuracy"] for scores in found}) == 1
    assert checkpoint.load_latest(tmp_path)[1]["progress"]["stopped"]


def test_a_result_depends_on_the_files_that_its_task_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("results/a/model").mkdir(parents=True)
    Path("mse").touch()
    task = {"use": "x.Y", "start": "results/a/model", "model": {"weights": "results/none"}, "criterion": "mse", "n": 3}
    assert referenced_paths(task) == ["results/a/model"]
