"""Recipes of the families through real DVC, Ray and MLflow, small: results, pictures, search tables, served models."""

from __future__ import annotations

import csv
import re
import sys
from typing import Any

import pytest

from components import prestart
from tests.workspace import Workspace, clone

CHANGES = {
    "pipelines/vision/resnet.yaml": {"data.labels": 200, "fit.epochs": 12},
    "pipelines/generative/dcgan.yaml": {"data.labels": 200, "data.validation": 80, "fit.epochs": 3},
    "pipelines/style/transfer.yaml": {"data.size": [32, 48], "fit.epochs": 20, "fit.evaluate_every": 10},
    "pipelines/studies/search.yaml": {
        **{"data.labels": 200, "data.validation": 100, "fit.epochs": 2},
        **{"tune.epochs": 4, "tune.search.samples": 4},
    },
    "pipelines/studies/optimizers.yaml": {"data.labels": 100, "fit.epochs": 1, "tune.folds": 2},
}
STAGES = [
    "generative/dvc.yaml:fit@dcgan",
    "style/dvc.yaml:fit@transfer",
    "studies/dvc.yaml:fit@optimizers",
    "studies/dvc.yaml:fit@search",
]
pytestmark = pytest.mark.cluster(lane=1)


@pytest.fixture(scope="module")
def workspace(cluster_of_two: str, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = clone(tmp_path_factory.mktemp("families"), CHANGES)
    made.environment |= {"RAY_ADDRESS": cluster_of_two, prestart.KEPT: cluster_of_two}
    made.trainyard("run", *(f"pipelines/{stage}" for stage in STAGES))
    return made


def runs_of(workspace: Workspace, experiment: str) -> list:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{workspace.folder}/mlflow.db")
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id], max_results=100)
    for run in runs:
        run.artifacts = {a.path for a in client.list_artifacts(run.info.run_id, "pictures")}
    return runs


def test_a_recipe_that_needs_another_ones_model_makes_it_first(workspace: Workspace) -> None:
    assert workspace.json("results/vision/resnet/metrics.json")["accuracy"] > 0.5
    metrics = workspace.json("results/generative/dcgan/metrics.json")
    assert metrics.keys() == {"fid", "inception_score", "coverage"}
    with (workspace.folder / "results/generative/dcgan/history.csv").open() as file:
        fids = [float(row["validation/fid"]) for row in csv.DictReader(file) if row["validation/fid"]]
    assert len(fids) == 3
    assert min(fids) > 0


def test_pictures_are_in_the_results_and_on_the_runs_page(workspace: Workspace) -> None:
    (gan,) = runs_of(workspace, "generative")
    kept = {f"pictures/samples-{step:06d}.png" for step in (4, 8, 12)}
    assert kept | {"pictures/samples.png", "pictures/curves.png"} <= gan.artifacts
    (style,) = runs_of(workspace, "style")
    assert {"pictures/canvas-000010.png", "pictures/canvas-000020.png", "pictures/canvas.png"} <= style.artifacts
    for path in ("generative/dcgan/pictures/samples.png", "style/transfer/pictures/canvas.png"):
        assert (workspace.folder / "results" / path).read_bytes().startswith(b"\x89PNG")


def test_verdicts_are_tags(workspace: Workspace) -> None:
    (gan,) = runs_of(workspace, "generative")
    assert gan.data.tags["mode_collapse"].split(":")[0] in ("none", "ALARM")
    assert gan.data.tags["features"] == "results/vision/resnet/model"
    assert re.fullmatch(r"\d workers? on \S+, 1 thread each", gan.data.tags["hardware"])
    (style,) = runs_of(workspace, "style")
    assert style.data.tags["features"].startswith("random weights")
    assert style.data.metrics["test/content_loss"] > 0


def study(workspace: Workspace, name: str) -> tuple[Any, list]:
    """The run of a study, and those of its trials."""
    runs = runs_of(workspace, "studies")
    (fit,) = [run for run in runs if run.info.run_name == name]
    return fit, [run for run in runs if run.data.tags.get("mlflow.parentRunId") == fit.info.run_id]


def test_a_search_by_epochs_stops_early_and_shows_every_curve(workspace: Workspace) -> None:
    from mlflow import MlflowClient

    with (workspace.folder / "results/studies/search/search.csv").open() as file:
        rows = {int(row["trial"]): row for row in csv.DictReader(file)}
    assert sorted(row["epochs"] for row in rows.values()) == ["1", "1", "1", "4"], "the best of three goes on"
    fit, trials = study(workspace, "search")
    client = MlflowClient(f"sqlite:///{workspace.folder}/mlflow.db")
    for trial in trials:
        row = rows[int(trial.info.run_name.split()[1])]
        curve = client.get_metric_history(trial.info.run_id, "accuracy")
        assert [point.step for point in curve] == list(range(1, int(row["epochs"]) + 1))
        assert round(curve[-1].value, 9) == round(float(row["accuracy"]), 9), "the last epoch's, no mean"
    assert len(trials) == 4
    assert "pictures/search.png" in fit.artifacts
    left = {file.name for file in (workspace.folder / ".trainyard/runs").glob("search-*/trials/*/*")}
    assert "trial.json" in left
    assert "fit" not in left, "the trials' checkpoints"


def test_a_grid_tries_all_and_reports_mean_and_deviation(workspace: Workspace) -> None:
    with (workspace.folder / "results/studies/optimizers/search.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert all(row["finished"] == "True" and row["folds"] == "2" for row in rows), "none is stopped early"
    assert {row["task.optimizer.use"] for row in rows} == {
        f"optimizers.{name}" for name in ("sgd", "adagrad", "rmsprop", "adam")
    }
    assert all(float(row["accuracy_std"]) >= 0 and 0 <= float(row["train_accuracy"]) <= 1 for row in rows)
    fit, trials = study(workspace, "optimizers")
    assert len(trials) == 6
    assert "pictures/search.png" in fit.artifacts
    means = {round(float(row["accuracy"]), 12) for row in rows}
    assert means == {round(run.data.metrics["accuracy"], 12) for run in trials}
    metrics = workspace.json("results/studies/optimizers/metrics.json")
    assert metrics["accuracy_low"] <= metrics["accuracy"] <= metrics["accuracy_high"]


def test_the_registered_generator_draws_by_number(workspace: Workspace) -> None:
    """In a process of its own, as whoever serves it would."""
    code = """
import mlflow, numpy as np, sys
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/generative-dcgan/1")
one, two = (model.predict({"row": np.array(rows)})["image"] for rows in ([3, 4], [4, 5]))
assert one.shape == (2, 16, 16, 1) and one.dtype == np.uint8, (one.shape, one.dtype)
assert np.array_equal(one[1], two[0]) and not np.array_equal(one[0], two[0])
"""
    workspace.run(sys.executable, "-c", code, f"sqlite:///{workspace.folder}/mlflow.db")


def test_again_nothing_runs(workspace: Workspace) -> None:
    said = workspace.trainyard("run", *(f"pipelines/{stage}" for stage in STAGES))
    assert said.startswith("nothing changed: no stage to run\n")
    assert "dvc metrics show" in said, "where a family's results are; the flagship was not run"
