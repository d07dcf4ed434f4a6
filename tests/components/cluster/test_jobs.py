"""What is handed to a Ray cluster besides the command; tests/test_team.py has a real one."""

from __future__ import annotations

from typing import Any

import pytest

from components.cluster import jobs


class Cluster:
    """Takes one job, and ends at once."""

    def __init__(self, address: str) -> None:
        pass

    def submit_job(self, **given: Any) -> str:
        self.__class__.given = given
        return "job"


def test_what_a_job_needs_travels_and_no_secret_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dashboard shows a job's environment to whoever may look."""
    wanted = {"TRAINYARD_WORKERS": "2", "TRAINYARD_THREADS": "1", "TRAINYARD_BY": "me", "TRAINYARD_ALLOW": "mylab"}
    others = {"TRAINYARD_WEBHOOK": "https://hooks.example/secret", "TRAINYARD_FOLLOWED": "/here"}
    others |= {"MLFLOW_TRACKING_PASSWORD": "secret"}
    for name, value in (wanted | others).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(jobs.ADDRESS, "")  # which is taken back
    monkeypatch.setattr("components.cluster.jobs.authenticate", lambda: None)
    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", Cluster)
    monkeypatch.setattr(jobs, "follow_job", lambda client, job: 7)
    assert jobs.submit_job("http://127.0.0.1:8265", "true") == 7
    assert Cluster.given == {"entrypoint": "true", "runtime_env": {"env_vars": wanted}}
