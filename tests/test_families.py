"""Recipes of the families through real DVC, Ray and an MLflow server, small: results, pictures, search tables, served
models; and what the environment keeps secret is in nothing that they leave behind, and in nothing that they say.
"""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components import network
from components.cluster import prestart
from components.tracking import server
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
    "pipelines/vision/mlp.yaml": {"fit.epochs": 2, "task.optimizer.lr": 1e30, "fit.log_every": 1},  # diverges
}
SECRETS = {  # variables that hold one, beside the tracker's address
    "AWS_ACCESS_KEY_ID": "canary-id-5f1c",
    "AWS_SECRET_ACCESS_KEY": "canary-key-77aa",
    "DATABASE_URL": "postgresql://user:canary-database-1b@localhost/db",
    "GITHUB_TOKEN": "canary-token-90ce",
    "MLFLOW_TRACKING_PASSWORD": "canary-password-31",
    "TRAINYARD_WEBHOOK": "https://hooks.example/canary-hook-2d",
}
STAGES = [
    "generative/dvc.yaml:fit@dcgan",
    "style/dvc.yaml:fit@transfer",
    "studies/dvc.yaml:fit@optimizers",
    "studies/dvc.yaml:fit@search",
]
pytestmark = pytest.mark.cluster(lane=1)


@pytest.fixture(scope="module")
def workspace(cluster_of_two: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    made = clone(tmp_path_factory.mktemp("families"), CHANGES)
    port = network.free_port()
    command = server.server_command(port, f"sqlite:///{made.folder}/mlflow.db", made.folder / "artifacts")
    with (made.folder / "tracker.log").open("w") as log:
        process = subprocess.Popen(command, cwd=made.folder, stdout=log, stderr=log, start_new_session=True)
    made.environment |= SECRETS | {
        "MLFLOW_TRACKING_URI": f"http://somebody:canary-address-6e@127.0.0.1:{port}",
        "RAY_ADDRESS": cluster_of_two,
        prestart.KEPT_CLUSTER: cluster_of_two,
    }
    try:
        assert network.accepts_connections(f"127.0.0.1:{port}", patience=90)
        yield made
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def said(workspace: Workspace) -> str:
    """What a run of all STAGES says."""
    return workspace.trainyard("run", *(f"pipelines/{stage}" for stage in STAGES))


@pytest.fixture(autouse=True)
def everything_ran(said: str) -> None:
    """Before any of these tests."""


def runs_of(workspace: Workspace, experiment: str) -> list:
    from mlflow import MlflowClient

    client = MlflowClient(workspace.environment["MLFLOW_TRACKING_URI"])
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
    client = MlflowClient(workspace.environment["MLFLOW_TRACKING_URI"])
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
    assert all({"trainyard.diagnosis", "mlflow.note.content"} <= run.data.tags.keys() for run in [fit, *trials])
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
    workspace.run(sys.executable, "-c", code, workspace.environment["MLFLOW_TRACKING_URI"])


def test_again_nothing_runs(workspace: Workspace) -> None:
    said = workspace.trainyard("run", *(f"pipelines/{stage}" for stage in STAGES))
    assert said.startswith("nothing changed: no stage to run\n")
    assert "dvc metrics show" in said, "where a family's results are; the flagship was not run"


# ------------------------------------------------------------------------------------------------ secrets


def leaks(folder: Path, said: str) -> list[str]:
    """Where a secret is, or Ray's token."""
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    secrets = [b"canary"] + ([token.read_bytes()] if token.is_file() else [])
    files = [f for f in folder.rglob("*") if f.is_file() and ".git" not in f.parts and f.name != "test_families.py"]
    found = [str(file) for file in files if any(secret in file.read_bytes() for secret in secrets)]
    return found + ["what was said"] * any(secret in said.encode() for secret in secrets)


def test_a_run_leaks_nothing(workspace: Workspace, said: str) -> None:
    assert list((workspace.folder / "artifacts").rglob("weights.safetensors")), "models arrived"
    assert leaks(workspace.folder, said) == []


def test_a_failure_leaks_nothing(workspace: Workspace) -> None:
    said = workspace.trainyard("fit", "pipelines/vision/mlp.yaml", code=2)
    assert "became" in said
    assert leaks(workspace.folder, said) == []


def test_a_tracker_that_is_gone_leaks_nothing(workspace: Workspace) -> None:
    gone = f"http://somebody:canary-address-6e@127.0.0.1:{network.free_port()}"
    said = workspace.trainyard("sync", code=2, MLFLOW_TRACKING_URI=gone)
    assert "nothing is lost, try again later" in said
    said += workspace.trainyard("doctor", code=1, MLFLOW_TRACKING_URI=gone)
    assert "does not answer" in said
    said += workspace.trainyard("doctor", MLFLOW_TRACKING_URI="postgresql://me:canary-6e@db/mlflow")
    assert "tracking in postgresql://db/mlflow" in said
    assert leaks(workspace.folder, said) == []


def test_the_search_for_leaks_finds_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("canary-key")
    assert leaks(tmp_path, "") == [str(tmp_path / "a")]
    assert leaks(tmp_path / "none", "canary-key") == ["what was said"]
