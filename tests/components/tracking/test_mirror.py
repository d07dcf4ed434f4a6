"""A mirror sends the runs of several stages to a real MLflow; failures of one run or of the tracker hurt no other."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from components import network
from components.runs.description import RUN
from components.tracking import mirror, pages, replay, server
from tests.components.tracking.sent_runs import points, runs, write_run


def test_a_shared_mirror_sends_for_all_stages_and_old_runs_at_the_end(store: str, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    write_run(folder / "old-1", name="old")
    os.utime(folder / "old-1" / RUN, (0, 0))
    with mirror.shared_mirror(folder):
        lines = write_run(folder / "new-1", name="new")
        write_run(folder / "new-1" / "fits" / "1", parent=folder / "new-1", name="below")
        with mirror.mirror_unless_shared(folder / "new-1") as context:
            assert context is None
        with mirror.mirror_unless_shared(tmp_path / "elsewhere") as context:
            assert isinstance(context, mirror.Mirror)
        until = time.monotonic() + 60
        while mirror.find_unsent_runs(folder / "new-1") and time.monotonic() < until:
            time.sleep(0.1)
        assert {run.info.run_name for run in runs()} == {"new", "below"}
        lines.write("metric", step=31, values={"train/loss": 0.5})
    assert {run.info.run_name for run in runs()} == {"new", "below", "old"}
    assert mirror.audit_metrics(folder)[1:] == (0, 0)
    with mirror.mirror_unless_shared(folder / "new-1") as context:
        assert isinstance(context, mirror.Mirror)


def test_a_run_deleted_at_the_tracker_stays_deleted_and_others_are_sent(
    store: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folders = [tmp_path / "runs" / name for name in ("a-1", "b-1", "c-1")]
    journals = [write_run(folder, name=folder.name) for folder in folders[:2]]
    mirror.Mirror(tmp_path).send()
    client = server.make_client(store)
    deleted = json.loads((folders[0] / "mirror.json").read_text())["run"]
    client.delete_run(deleted)
    for lines in journals:
        lines.write("metric", step=31, epoch=3.1, values={"train/loss": 0.5})
    write_run(folders[2], name="c-1")
    assert mirror.Mirror(tmp_path).send() == 1 + 63
    for run, steps in zip(runs(), (31, 30), strict=True):
        assert len(points(run, "train/loss")) == steps
    assert [record.getMessage().count("a-1: deleted at sqlite") for record in caplog.records] == [1]
    assert mirror.find_unsent_runs(tmp_path) == []
    journals[0].write("metric", step=32, epoch=3.2, values={"train/loss": 0.4})
    assert mirror.Mirror(tmp_path).send() == 0
    assert len(caplog.records) == 1
    client.restore_run(deleted)
    (folders[0] / "mirror.json").unlink()  # as the warning says
    mirror.Mirror(tmp_path).send()
    assert [run.info.run_name for run in runs()] == ["a-1", "b-1", "c-1"]
    assert mirror.audit_metrics(tmp_path)[1:] == (0, 0)


def test_a_run_that_the_tracker_does_not_know_is_sent_again(store: str, empty_store: Path, tmp_path: Path) -> None:
    """The tracker's database was replaced by an empty one."""
    lines = write_run(tmp_path / "runs" / "a-1")
    mirror.Mirror(tmp_path).send()
    shutil.copy(empty_store, store.removeprefix("sqlite:///"))
    lines.write("metric", step=31, epoch=3.1, values={"train/loss": 0.5})
    with pytest.raises(MlflowException):
        mirror.Mirror(tmp_path).send()
    mirror.Mirror(tmp_path).send()
    assert len(points(runs()[0], "train/loss")) == 31
    assert mirror.audit_metrics(tmp_path)[1:] == (0, 0)


def test_a_rejected_record_holds_up_its_own_run_alone(store: str, tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "a-1", name="a").write("metric", step=31, values={"what?": 1.0})
    write_run(tmp_path / "runs" / "b-1", name="b")
    for _ in range(2):
        with pytest.raises(MlflowException, match=r"what\?"):
            mirror.Mirror(tmp_path).send()
        assert mirror.find_unsent_runs(tmp_path) == [tmp_path / "runs" / "a-1"]
    assert len(points(runs()[1], "train/loss")) == 30


def test_a_tracker_that_does_not_answer_is_not_asked_for_every_run(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fail(run: replay.RunReplay) -> int:
        asked.append(run.folder.name)
        raise ConnectionError(run.folder.name)

    for name in ("a-1", "b-1"):
        write_run(tmp_path / "runs" / name)
    monkeypatch.setattr(replay.RunReplay, "send", fail)
    with pytest.raises(ConnectionError, match="a-1"):
        mirror.Mirror(tmp_path).send()
    assert asked == ["a-1", "b-1"]
    port = network.free_port()
    with pytest.raises(ConnectionError, match="a-1"):
        mirror.Mirror(tmp_path, address=f"http://127.0.0.1:{port}").send()
    assert asked == ["a-1", "b-1", "a-1"]


@pytest.fixture
def switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict]:
    """Return functions that start and stop a real server."""
    port = network.free_port()
    processes: list[subprocess.Popen] = []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.chdir(tmp_path)
    command = server.server_command(port, tmp_path / "kept")
    environment = server.server_settings(f"sqlite:///{tmp_path}/server.db")

    def start() -> None:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        processes.append(subprocess.Popen(command, env=environment, start_new_session=True, **quiet))
        assert network.accepts_connections(f"127.0.0.1:{port}", patience=90)

    def stop() -> None:
        os.killpg(processes.pop().pid, signal.SIGKILL)

    yield {"start": start, "stop": stop}
    if processes:
        stop()


def test_a_dead_server_delays_nothing_and_loses_nothing(switch: dict, tmp_path: Path, caplog, monkeypatch) -> None:
    folder = tmp_path / "runs" / "pretrain-1"
    began = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(mirror, "PATIENCE", 3.0)
        with mirror.Mirror(folder):
            lines = write_run(folder)
    assert time.monotonic() - began < 12
    assert "trainyard sync" in caplog.text
    assert mirror.find_unsent_runs(tmp_path) == [folder]
    switch["start"]()
    monkeypatch.setattr(mirror, "PATIENCE", 60.0)
    with mirror.Mirror(folder):
        for step in range(31, 41):
            lines.write("metric", step=step, epoch=step / 10, values={"train/loss": 1 / step})
    (run,) = runs()
    assert points(run, "train/loss") == [(step, 1 / step) for step in range(1, 41)]
    assert json.loads((folder / "mirror.json").read_text())["run"] == run.info.run_id
    assert mirror.find_unsent_runs(tmp_path) == []
    assert "runs" in pages.find_pages("bench", "http://127.0.0.1:1")["all pipelines"]
