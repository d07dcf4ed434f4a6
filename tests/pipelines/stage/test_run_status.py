"""Check how the runs of a stage and of its pipeline begin and end, in the journals and in a real MLflow."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.errors import Refusal, Stopped
from components.runs import journal
from components.tracking import server
from components.tracking.mirror import Mirror
from components.workspace import runs_folder
from pipelines.stage import context


@pytest.fixture
def store(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make a temporary folder the current directory, with an MLflow database and no Ray cluster."""
    monkeypatch.chdir(tmp_path)
    address = f"sqlite:///{shutil.copy(empty_store, tmp_path)}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("TRAINYARD_FOLLOWED", str(tmp_path))  # the test sends the runs itself
    monkeypatch.setattr(context.connection, "connect", lambda: None)
    monkeypatch.setattr(context.plan, "plan_workers", lambda parts: SimpleNamespace(workers=1))
    monkeypatch.setattr(context.prestart, "prestart_workers", lambda workers: None)
    return address


def pipeline_run(address: str) -> Any:
    """Send everything and return the pipeline's run in MLflow."""
    Mirror(runs_folder()).send()
    client = server.make_client(address)
    experiment = client.get_experiment_by_name("test").experiment_id
    (run,) = client.search_runs([experiment], "tags.\"trainyard.stage\" = 'pipeline'")
    return run


@pytest.mark.parametrize("names", [["prepare"], ["pretrain", "tune"], ["evaluate"]])
def test_the_pipelines_run_ends_whatever_subset_of_stages_ran(names: list[str], store: str) -> None:
    """DVC skips the stages whose outputs are up to date, often the last ones."""
    for name in names:
        with context.stage(name, {"name": "test"}, {}, []):
            assert pipeline_run(store).info.status == "RUNNING"
    run = pipeline_run(store)
    assert run.info.status == "FINISHED"
    assert run.info.end_time >= run.info.start_time


@pytest.mark.parametrize(("error", "status"), [(Refusal("no"), "FAILED"), (Stopped("later"), "KILLED")])
def test_a_stage_that_fails_ends_both_runs_and_the_next_attempt_begins_them_again(
    error: Exception, status: str, store: str
) -> None:
    with suppress(Refusal, Stopped), context.stage("tune", {"name": "test"}, {}, []) as current:
        raise error
    assert pipeline_run(store).info.status == status
    with context.stage("tune", {"name": "test"}, {}, []):
        pass
    assert pipeline_run(store).info.status == "FINISHED"
    ends = journal.read_records(current.folder / journal.STAGE_LOG, "end")
    assert [end.payload["status"] for end in ends] == [status, "FINISHED"]
