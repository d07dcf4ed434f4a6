"""Test what a stage records of the trials of its search."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from components.runs.description import describe_run
from components.runs.journal import STAGE_LOG, Journal
from components.search.trials import Trial
from components.tracking import server
from components.tracking.replay import RunReplay
from pipelines import fit, tune
from pipelines.stage.context import Stage

LOST = Trial("trials", 7, {"fit.batch": 8}, lost="given up: its worker was lost 9 times")
BEGAN, ENDED = 1_700_000_000_000, 1_700_000_012_345


@pytest.mark.parametrize(("reason", "status"), [("", "FINISHED"), (LOST.lost, "FAILED")])
def test_a_trial_has_its_own_begin_and_end_in_mlflow(
    reason: str, status: str, empty_store: Path, tmp_path: Path
) -> None:
    uri = f"sqlite:///{shutil.copy(empty_store, tmp_path / 'mlflow.db')}"
    client = server.make_client(uri)
    describe_run(tmp_path / "stage", "tune", "bench")
    lines = Journal(tmp_path / "stage" / STAGE_LOG)
    stage = Stage("tune", {"name": "bench"}, tmp_path / "stage", lines, lines)
    folder = tmp_path / "stage/trials/trial-000"
    trial = Trial("trials", 0, {"fit.batch": 8}, [{"accuracy": 0.5}], lost=reason, began=BEGAN, ended=ENDED)
    stage.add_trial("trial 00", folder, trial, "group")
    replay = RunReplay(client, uri, folder)
    replay.send()
    run = client.get_run(replay.find_or_create_run())
    assert (run.info.start_time, run.info.end_time, run.info.status) == (BEGAN, ENDED, status)
    assert [point.timestamp for point in client.get_metric_history(run.info.run_id, "accuracy")] == [ENDED]


def test_a_lost_trial_is_a_row_with_its_reason() -> None:
    assert fit.trial_row(LOST)["reason"] == tune._row(LOST)["reason"] == LOST.lost
    finished = Trial("trials", 0, {"fit.batch": 8}, [{"accuracy": 0.5}], finished=True)
    assert "reason" not in fit.trial_row(finished) | tune._row(finished)
