"""What the environment keeps secret is in nothing that a run leaves behind, and in nothing that it says."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from components import ports, tracker
from tests.workspace import Workspace, clone

pytestmark = pytest.mark.cluster(lane=1)
SECRETS = {  # variables that hold one, beside the tracker's address
    "AWS_ACCESS_KEY_ID": "canary-id-5f1c",
    "AWS_SECRET_ACCESS_KEY": "canary-key-77aa",
    "DATABASE_URL": "postgresql://user:canary-database-1b@localhost/db",
    "GITHUB_TOKEN": "canary-token-90ce",
    "MLFLOW_TRACKING_PASSWORD": "canary-password-31",
    "TRAINYARD_WEBHOOK": "https://hooks.example/canary-hook-2d",
}
RECIPE = {"pipelines/vision/softmax.yaml": {"fit.epochs": 2, "data.labels": 100}}
DIVERGES = {"pipelines/vision/mlp.yaml": {"fit.epochs": 2, "task.optimizer.lr": 1e30, "fit.log_every": 1}}


@pytest.fixture(scope="module")
def workspace(cluster_of_two: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    made = clone(tmp_path_factory.mktemp("secrets"), RECIPE | DIVERGES)
    port = ports.free_port()
    store = [f"sqlite:///{made.folder}/tracker.db", made.folder / "artifacts"]
    with (made.folder / "tracker.log").open("w") as log:
        server = subprocess.Popen(
            tracker.server(port, *store), cwd=made.folder, stdout=log, stderr=log, start_new_session=True
        )
    made.environment |= SECRETS | {
        "MLFLOW_TRACKING_URI": f"http://somebody:canary-address-6e@127.0.0.1:{port}",
        "RAY_ADDRESS": cluster_of_two,
    }
    try:
        assert ports.answers(f"127.0.0.1:{port}", patience=90)
        yield made
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def leaks(folder: Path, said: str) -> list[str]:
    """Where a secret is, or Ray's token."""
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    secrets = [b"canary"] + ([token.read_bytes()] if token.is_file() else [])
    files = [f for f in folder.rglob("*") if f.is_file() and ".git" not in f.parts and f.name != "test_secrets.py"]
    found = [str(file) for file in files if any(secret in file.read_bytes() for secret in secrets)]
    return found + ["what was said"] * any(secret in said.encode() for secret in secrets)


def test_a_run_leaks_nothing(workspace: Workspace) -> None:
    said = workspace.trainyard("fit", "pipelines/vision/softmax.yaml")
    said += workspace.trainyard("sync")
    assert (workspace.folder / "results/vision/softmax/metrics.json").is_file()
    assert (workspace.folder / "tracker.db").stat().st_size > 0
    assert list((workspace.folder / "artifacts").rglob("weights.safetensors")), "the model arrived"
    assert leaks(workspace.folder, said) == []


def test_a_failure_leaks_nothing(workspace: Workspace) -> None:
    said = workspace.trainyard("fit", "pipelines/vision/mlp.yaml", code=2)
    assert "became" in said
    assert leaks(workspace.folder, said) == []


def test_a_tracker_that_is_gone_leaks_nothing(workspace: Workspace) -> None:
    gone = f"http://somebody:canary-address-6e@127.0.0.1:{ports.free_port()}"
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
