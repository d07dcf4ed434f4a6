"""Run small recipes of the families with real DVC, Ray and an MLflow server.

Check results, pictures, search tables and served models, and that no file and no output holds a secret of the
environment.
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
    "pipelines/generative/dcgan.yaml": {
        **{"data.labels": 200, "data.validation": 80, "fit.epochs": 3},
        "fit.evaluate_every": 1,
    },
    "pipelines/studies/search.yaml": {
        **{"data.labels": 200, "data.validation": 100, "fit.epochs": 2},
        **{"tune.epochs": 4, "tune.search.samples": 4},
    },
    "pipelines/studies/optimizers.yaml": {"data.labels": 100, "fit.epochs": 1, "tune.folds": 2},
    "pipelines/vision/mlp.yaml": {"fit.epochs": 2, "task.optimizer.lr": 1e30, "fit.log_every": 1},  # diverges
}
SECRETS = {  # in addition to the password in the tracker's address
    "AWS_ACCESS_KEY_ID": "canary-id-5f1c",
    "AWS_SECRET_ACCESS_KEY": "canary-key-77aa",
    "DATABASE_URL": "postgresql://user:canary-database-1b@localhost/db",
    "GITHUB_TOKEN": "canary-token-90ce",
    "MLFLOW_TRACKING_PASSWORD": "canary-password-31",
    "TRAINYARD_WEBHOOK": "https://hooks.example/canary-hook-2d",
}
STAGES = [
    "generative/dvc.yaml:fit@dcgan",
    "studies/dvc.yaml:fit@search",
]
pytestmark = [pytest.mark.cluster(lane=1), pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def workspace(cluster_of_two: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    copy = clone(tmp_path_factory.mktemp("families"), CHANGES)
    port = network.free_port()
    command = server.server_command(port, copy.folder / "artifacts")
    with (copy.folder / "tracker.log").open("w") as log:
        environment = server.server_settings(f"sqlite:///{copy.folder}/mlflow.db")
        process = subprocess.Popen(
            command, cwd=copy.folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    copy.environment |= SECRETS | {
        "MLFLOW_TRACKING_URI": f"http://somebody:canary-address-6e@127.0.0.1:{port}",
        prestart.KEPT_CLUSTER: cluster_of_two,
    }
    try:
        assert network.accepts_connections(f"127.0.0.1:{port}", patience=90)
        yield copy
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def run_output(workspace: Workspace) -> str:
    """Run all STAGES; return what the command prints."""
    return workspace.trainyard("run", *(f"pipelines/{stage}" for stage in STAGES))


@pytest.fixture(autouse=True)
def everything_ran(run_output: str) -> None:
    """Run all STAGES before any of these tests."""


def list_runs(workspace: Workspace, experiment: str) -> list:
    from mlflow import MlflowClient

    client = MlflowClient(workspace.environment["MLFLOW_TRACKING_URI"])
    identity = client.get_experiment_by_name(experiment).experiment_id
    runs = client.search_runs([identity], max_results=100)
    for run in runs:
        run.artifacts = {a.path for a in client.list_artifacts(run.info.run_id, "pictures")}
    return runs


def test_recipe_that_needs_the_model_of_another_runs_it_first(workspace: Workspace) -> None:
    assert workspace.json("results/vision/resnet/metrics.json")["accuracy"] > 0.5
    metrics = workspace.json("results/generative/dcgan/metrics.json")
    assert metrics.keys() == {"fid", "inception_score", "coverage", "spread", "variety"}
    with (workspace.folder / "results/generative/dcgan/history.csv").open() as file:
        fids = [float(row["validation/fid"]) for row in csv.DictReader(file) if row["validation/fid"]]
    assert len(fids) == 3
    assert min(fids) > 0


def test_pictures_are_in_the_results_and_in_mlflow(workspace: Workspace) -> None:
    (gan,) = list_runs(workspace, "generative")
    samples = {f"pictures/samples-{step:06d}.png" for step in (4, 8, 12)}
    assert samples | {"pictures/samples.png", "pictures/curves.png"} <= gan.artifacts
    file = workspace.folder / "results/generative/dcgan/pictures/samples.png"
    assert file.read_bytes().startswith(b"\x89PNG")


def test_verdicts_are_tags(workspace: Workspace) -> None:
    (gan,) = list_runs(workspace, "generative")
    assert re.match("none:|ALARM, collapse", gan.data.tags["mode_collapse"])
    assert gan.data.tags["features"] == "the classifier results/vision/resnet/model"
    assert re.fullmatch(r"\d workers? on \S+, 1 thread each", gan.data.tags["hardware"])
    assert gan.data.metrics["test/fid"] > 0


def study_runs(workspace: Workspace, name: str) -> tuple[Any, list]:
    """Return the run of a study, and the runs of its trials."""
    runs = list_runs(workspace, "studies")
    (fit,) = [run for run in runs if run.info.run_name == name]
    return fit, [run for run in runs if run.data.tags.get("mlflow.parentRunId") == fit.info.run_id]


def test_search_by_epochs_stops_early_and_shows_every_curve(workspace: Workspace) -> None:
    from mlflow import MlflowClient

    with (workspace.folder / "results/studies/search/tables/search.csv").open() as file:
        rows = {int(row["trial"]): row for row in csv.DictReader(file)}
    assert sorted(row["epochs"] for row in rows.values()) == ["1", "1", "1", "4"], "the best of three continues"
    fit, trials = study_runs(workspace, "search")
    client = MlflowClient(workspace.environment["MLFLOW_TRACKING_URI"])
    for trial in trials:
        row = rows[int(trial.info.run_name.split()[1])]
        curve = client.get_metric_history(trial.info.run_id, "accuracy")
        assert [point.step for point in curve] == list(range(1, int(row["epochs"]) + 1))
        assert round(curve[-1].value, 9) == round(float(row["accuracy"]), 9), "the score of the last epoch, not a mean"
    assert len(trials) == 4
    assert "pictures/search.png" in fit.artifacts
    names = {file.name for file in (workspace.folder / ".trainyard/runs").glob("search-*/trials/*/*")}
    assert "trial.json" in names
    assert "fit" not in names, "the trials' checkpoints are removed"


@pytest.mark.slow
def test_grid_tries_all_values_and_reports_mean_and_deviation(workspace: Workspace) -> None:
    """tests/components/search/test_ray_tune.py tries a grid on Ray, tests/pipelines/commands/test_results.py folds."""
    workspace.trainyard("run", "pipelines/studies/dvc.yaml:fit@optimizers")
    with (workspace.folder / "results/studies/optimizers/tables/search.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert all(row["finished"] == "True" and row["folds"] == "2" for row in rows), "none is stopped early"
    assert {row["task.optimizer.use"] for row in rows} == {
        f"optimizers.{name}" for name in ("sgd", "adagrad", "rmsprop", "adam")
    }
    assert all(float(row["accuracy_std"]) >= 0 and 0 <= float(row["train_accuracy"]) <= 1 for row in rows)
    fit, trials = study_runs(workspace, "optimizers")
    assert len(trials) == 6
    assert all({"trainyard.diagnosis", "mlflow.note.content"} <= run.data.tags.keys() for run in [fit, *trials])
    assert "pictures/search.png" in fit.artifacts
    means = {round(float(row["accuracy"]), 12) for row in rows}
    assert means == {round(run.data.metrics["accuracy"], 12) for run in trials}
    metrics = workspace.json("results/studies/optimizers/metrics.json")
    assert metrics["accuracy_low"] <= metrics["accuracy"] <= metrics["accuracy_high"]


def test_registered_generator_draws_by_number(workspace: Workspace) -> None:
    """The model is loaded in another process, as for serving."""
    code = """
import mlflow, numpy as np, sys
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/generative-dcgan/1")
first, second = (model.predict({"row": np.array(rows)})["image"] for rows in ([3, 4], [4, 5]))
assert first.shape == (2, 16, 16, 1) and first.dtype == np.uint8, (first.shape, first.dtype)
assert np.array_equal(first[1], second[0]) and not np.array_equal(first[0], second[0])
"""
    workspace.run(sys.executable, "-c", code, workspace.environment["MLFLOW_TRACKING_URI"])


def test_second_run_runs_no_stage(workspace: Workspace) -> None:
    output = workspace.trainyard("run", *(f"pipelines/{stage}" for stage in STAGES))
    assert output.startswith("nothing changed: no stage to run\n")
    assert "dvc metrics show" in output, "this shows a family's results; the flagship was not run"


# ------------------------------------------------------------------------------------------------ secrets


def find_leaks(folder: Path, output: str) -> list[str]:
    """Return the files, or the output, that hold a secret or Ray's token."""
    secrets = [b"canary", Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_bytes()]
    searched = [f for f in folder.rglob("*") if f.is_file() and ".git" not in f.parts]
    files = [f for f in searched if f.relative_to(folder).parts[0] != "tests"]  # the tests name the secrets
    leaks = [str(file) for file in files if any(secret in file.read_bytes() for secret in secrets)]
    return leaks + ["output"] * any(secret in output.encode() for secret in secrets)


def test_run_leaks_nothing(workspace: Workspace, run_output: str) -> None:
    assert list((workspace.folder / "artifacts").rglob("weights.safetensors")), "models arrived"
    assert find_leaks(workspace.folder, run_output) == []


def test_failure_leaks_nothing(workspace: Workspace) -> None:
    output = workspace.trainyard("fit", "pipelines/vision/mlp.yaml", code=2)
    assert "became" in output
    assert find_leaks(workspace.folder, output) == []


def test_unreachable_tracker_leaks_nothing(workspace: Workspace) -> None:
    gone = f"http://somebody:canary-address-6e@127.0.0.1:{network.free_port()}"
    output = workspace.trainyard("sync", code=75, MLFLOW_TRACKING_URI=gone)
    assert "does not answer (Connection refused); nothing is lost" in output
    output += workspace.trainyard("doctor", code=1, MLFLOW_TRACKING_URI=gone)
    assert "does not answer" in output
    unknown = "postgresql://me:canary-6e@no-such-host.invalid/mlflow"
    output += workspace.trainyard("doctor", code=1, MLFLOW_TRACKING_URI=unknown)
    assert "the tracker postgresql://no-such-host.invalid/mlflow: " in output
    assert find_leaks(workspace.folder, output) == []


def test_leak_is_found(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("canary-key")
    assert find_leaks(tmp_path, "") == [str(tmp_path / "a")]
    assert find_leaks(tmp_path / "none", "canary-key") == ["output"]
