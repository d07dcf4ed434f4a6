"""Test what a submitted job inherits; tests/test_team.py submits to a real cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from components.cluster import jobs
from components.errors import Refusal, TryLater
from pipelines import door


class Client:
    """A stub of Ray's client that records the request for a job."""

    request: ClassVar[dict[str, Any]] = {}

    def __init__(self, address: str) -> None:
        pass

    def submit_job(self, **request: Any) -> str:
        Client.request = request
        return "job"


@pytest.fixture
def dashboard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `submit_job` use the stub, and restore what it sets."""
    monkeypatch.setenv(jobs.API_ADDRESS, "")
    monkeypatch.setattr("components.cluster.jobs.authenticate", lambda: None)
    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", Client)


def test_a_job_inherits_settings_but_no_secret(dashboard: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dashboard shows a job's environment to everyone who can open it."""
    settings = {"TRAINYARD_WORKERS": "2", "TRAINYARD_THREADS": "1", "TRAINYARD_BY": "me", "TRAINYARD_ALLOW": "mylab"}
    others = {
        "TRAINYARD_WEBHOOK": "https://hooks.example/secret",
        "TRAINYARD_FOLLOWED": "/here",
        "MLFLOW_TRACKING_PASSWORD": "secret",
    }
    for name, value in (settings | others).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(jobs, "follow_job", lambda client, job: 7)
    assert jobs.submit_job("http://127.0.0.1:8265", "true") == 7
    assert Client.request == {"entrypoint": "true", "runtime_env": {"env_vars": settings}}


@pytest.mark.parametrize(
    "error", [RuntimeError("Version check returned 404."), OSError("502 Server Error"), KeyError("ray_version")]
)
def test_a_server_that_is_not_rays_is_refused(
    error: Exception, dashboard: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's client raises these for answers of another server, such as the tracker."""

    def fail(self: Client, address: str) -> None:
        raise error

    monkeypatch.setattr(Client, "__init__", fail)
    with pytest.raises(Refusal, match=r"http://127\.0\.0\.1:5000: no Jobs API of a Ray cluster answers there"):
        jobs.submit_job("http://127.0.0.1:5000", "true")


def test_a_cluster_that_is_down_is_for_later(
    dashboard: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """A schedule that submits tells a cluster that is down from wrong input by the exit code."""

    def fail(self: Client, address: str) -> None:
        raise ConnectionError(f"Failed to connect to Ray at address: {address}.")

    monkeypatch.setattr(Client, "__init__", fail)
    assert door.main(["submit", "--address=http://127.0.0.1:1", "retrain"]) == 75
    assert "not now: the dashboard http://127.0.0.1:1 does not answer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "says"),
    [("http://", "http://HOST:8265"), ("ray:8265", "http://HOST:8265"), ("http://me:canary@ray:8265", "a token")],
)
def test_what_is_not_an_address_of_a_dashboard_is_refused(
    address: str, says: str, capsys: pytest.CaptureFixture
) -> None:
    assert door.main(["submit", f"--address={address}", "retrain"]) == 2
    assert says in (err := capsys.readouterr().err)
    assert "canary" not in err


def test_the_job_runs_in_the_full_path_of_the_checkout(
    dashboard: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jobs, "follow_job", lambda client, job: 0)
    assert door.main(["submit", "--address=http://127.0.0.1:1", "--folder=yard", "retrain"]) == 0
    assert Client.request["entrypoint"].startswith(f"cd {tmp_path}/yard && ")


class Gone(Client):
    """A stub whose cluster is gone once the job has started."""

    def __getattr__(self, name: str) -> Any:
        raise OSError("Connection refused")


def test_a_cluster_that_is_lost_is_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "LOST_SECONDS", -1)
    with pytest.raises(TryLater, match=r"job 7: the cluster no longer answers \(Connection refused\)"):
        jobs.follow_job(Gone(""), "7")


def test_an_interrupt_ends_the_command_even_if_the_cluster_is_gone(
    dashboard: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def interrupt(client: Client, job: str) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", Gone)
    monkeypatch.setattr(jobs, "follow_job", interrupt)
    with pytest.raises(KeyboardInterrupt):
        jobs.submit_job("http://127.0.0.1:5000", "true")
    assert "job job may go on: the cluster was not told to stop it (Connection refused)" in capsys.readouterr().out
