"""Test what a submitted job inherits; tests/test_team.py submits to a real cluster."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from components.cluster import jobs


class Client:
    """A stub of Ray's client that records the request for a job."""

    request: ClassVar[dict[str, Any]] = {}

    def __init__(self, address: str) -> None:
        pass

    def submit_job(self, **request: Any) -> str:
        Client.request = request
        return "job"


def test_a_job_inherits_settings_but_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dashboard shows a job's environment to everyone who can open it."""
    settings = {"TRAINYARD_WORKERS": "2", "TRAINYARD_THREADS": "1", "TRAINYARD_BY": "me", "TRAINYARD_ALLOW": "mylab"}
    others = {
        "TRAINYARD_WEBHOOK": "https://hooks.example/secret",
        "TRAINYARD_FOLLOWED": "/here",
        "MLFLOW_TRACKING_PASSWORD": "secret",
    }
    for name, value in (settings | others).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(jobs.API_ADDRESS, "")  # submit_job sets it; the test restores it
    monkeypatch.setattr("components.cluster.jobs.authenticate", lambda: None)
    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", Client)
    monkeypatch.setattr(jobs, "follow_job", lambda client, job: 7)
    assert jobs.submit_job("http://127.0.0.1:8265", "true") == 7
    assert Client.request == {"entrypoint": "true", "runtime_env": {"env_vars": settings}}
