"""A search's trial by itself: scored on a fold, or with another seed on the validation split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from components import engine, recipe
from components.augment.offline import statistics
from components.data.dataset import prepare
from components.data.digits import Digits
from components.data.feed import Feed
from components.data.store import Store
from pipelines.fit import origins
from pipelines.training import specification, trial

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
    prepare(Digits(labels=100, validation=60), folder / "prepared")
    (folder / "augmented").mkdir()
    split = Store(folder / "prepared").split("train")
    (folder / "augmented" / "statistics.json").write_text(json.dumps(statistics(split, 0, 1).finish()))
    return {"section": SECTION, "prepared": f"{folder}/prepared", "augmented": f"{folder}/augmented"}


def test_without_folds_each_rung_is_a_seed_scored_on_the_validation_split(given: dict[str, Any]) -> None:
    found = [trial({"task.optimizer.lr": 0.2}, 1, rung, seed=3, **given) for rung in range(2)]
    section = recipe.overlay(SECTION, {"task.optimizer.lr": 0.2})
    store = Store(given["prepared"])
    for rung, scores in enumerate(found):
        outcome = engine.fit(
            recipe.build(section["task"]),
            specification(given["prepared"], given["augmented"]),
            Feed(store.split("train")),
            Feed(store.split("validation")),
            seed=3 + rung,
            **recipe.arguments(section["fit"]),
        )
        assert outcome.scores.items() <= scores.items()
    assert found[0]["loss"] != found[1]["loss"]


def test_with_folds_the_validation_split_is_not_looked_at(given: dict[str, Any], tmp_path: Path) -> None:
    scores = trial({}, 1, 0, seed=3, count=4, **given)
    for file in Path(given["prepared"]).glob("validation-*"):
        file.rename(tmp_path / file.name)
    assert trial({}, 1, 0, seed=3, count=4, **given) == scores
    assert scores["accuracy"] * 25 == pytest.approx(round(scores["accuracy"] * 25)), "of 25 held out"
    for file in tmp_path.glob("validation-*"):
        file.rename(Path(given["prepared"]) / file.name)


def test_a_result_depends_on_the_files_that_its_task_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("results/a/model").mkdir(parents=True)
    Path("mse").touch()
    task = {"use": "x.Y", "start": "results/a/model", "model": {"weights": "results/none"}, "criterion": "mse", "n": 3}
    assert origins(task) == ["results/a/model"]
