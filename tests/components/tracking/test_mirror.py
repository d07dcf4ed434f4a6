"""Every point arrives once at a real MLflow (SQLite, or its own server), and its failures do not hurt the work."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.exceptions import MlflowException

from components import network
from components.errors import Refusal
from components.recipes import recipe
from components.runs import journal
from components.runs.journal import Journal
from components.tracking import mirror, pages, replay, server
from components.training import exported
from components.training.task import Spec, Task


@pytest.fixture
def store(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    address = f"sqlite:///{shutil.copy(empty_store, tmp_path)}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    return address


def runs(experiment: str = "bench") -> list:
    client = server.make_client(server.tracking_uri())
    entity = client.get_experiment_by_name(experiment)
    if entity is None:
        return []
    return client.search_runs([entity.experiment_id], order_by=["start_time ASC", "attributes.run_name ASC"])


def points(run, name: str) -> list[tuple[int, float]]:
    history = server.make_client(server.tracking_uri()).get_metric_history(run.info.run_id, name)
    return sorted((metric.step, metric.value) for metric in history)


def write_run(folder: Path, steps: int = 30, parent: Path | None = None, name: str = "pretrain") -> Journal:
    journal.describe_run(folder, name, "bench", parent, {"lr": 0.1}, {"trainyard.stage": name}, [
        {"name": "digits", "digest": "ab" * 32, "profile": {"train": 100}}
    ])  # fmt: skip
    lines = Journal(folder / journal.LOG)
    write_steps(lines, range(1, steps + 1))
    return lines


def write_steps(lines: Journal, steps: range) -> None:
    for step in steps:
        lines.write("metric", step=step, epoch=step / 10, values={"train/loss": 1 / step})
        lines.write("progress", step=step, steps=100, values={}, speed=100.0)
        if step % 10 == 0:
            values = {"validation/accuracy": step / 100, "epoch/loss": 2 / step}
            lines.write("metric", step=step, epoch=step / 10, values=values)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://bob:p@host:5000", "http://host:5000"),
        ("http://bob:p@ss@host:5000", "http://host:5000"),
        ("http://bob:p/s:s@host:5000/at", "http://host:5000/at"),
        ("http://bob:123456/7?#@host", "http://host"),
        ("http://bob@host", "http://host"),
        ("postgresql+psycopg2://bob:p/ss@host/db", "postgresql+psycopg2://host/db"),
        ("can't reach http://bob:p@s/s@host:5000, nor x@y", "can't reach http://host:5000, nor x@y"),
        # An @ elsewhere does not end a password.
        ("http://host:5000/a@b?c=d@e#f@g", "http://host:5000/a@b?c=d@e#f@g"),
        ("http://host?a@b", "http://host?a@b"),
        ("http://[::1]:5000/a@b", "http://[::1]:5000/a@b"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("s3://bucket/a:b@c", "s3://bucket/a:b@c"),
        ("ask me@example.org about http://host", "ask me@example.org about http://host"),
    ],
)
def test_no_part_of_a_password_is_shown(address: str, shown: str) -> None:
    assert server.hide_credentials(address) == shown


def test_a_password_of_any_characters_is_moved_out_of_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")  # and is restored after the test
    for password in ("p", "p@ss", "p/ss", "a:b@c/d?e#f", "%40"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://bob:{password}@127.0.0.1:5000")
        assert (
            server.tracking_uri()
            == server.tracking_uri()
            == os.environ["MLFLOW_TRACKING_URI"]
            == "http://127.0.0.1:5000"
        )
        assert os.environ["MLFLOW_TRACKING_USERNAME"] == "bob"
        assert os.environ["MLFLOW_TRACKING_PASSWORD"] == password.replace("%40", "@")


@pytest.mark.parametrize("address", ["http://h:notaport", "http://h:99999", "http://", "http://[::1", "https://bob:p@"])
def test_an_address_without_a_host_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(Refusal, match="is not the address of a server; write one such as http://HOST:5000") as refused:
        server.tracking_uri()
    assert "bob" not in str(refused.value)


def test_params_changed_by_a_restart_are_an_attempt_and_every_point_arrives_once(store: str, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "pretrain-1"
    for number, rate in enumerate((0.1, 0.2, 0.05)):  # as population-based training does when it resumes
        journal.describe_run(folder, "pretrain", "bench", params={"lr": rate})
        with mirror.Mirror(folder):
            lines = Journal(folder / journal.LOG, position=5 * number)
            for step in range(5 * number + 1, 11 + 5 * number):
                lines.write("metric", step=step, epoch=step / 10, values={"train/loss": rate / step})
    (run,) = runs()
    assert run.data.params == {"lr": "0.1"}
    tags = {name: value for name, value in run.data.tags.items() if name.startswith("attempt")}
    assert tags == {"attempt": "3", "attempt.2.lr": "0.1 -> 0.2", "attempt.3.lr": "0.1 -> 0.05"}
    expected = [(s, r / s) for n, r in enumerate((0.1, 0.2, 0.05)) for s in range(5 * n + 1, 11 + 5 * n)]
    assert points(run, "train/loss") == sorted(expected)
    # Of 60 points, 20 were taken back after they were sent: steps 6 to 10 and 11 to 15, with the epoch.
    assert mirror.audit_metrics(tmp_path / "runs") == (40, 0, 20)


def test_runs_nest_and_carry_every_kind_of_record(store: str, tmp_path: Path) -> None:
    above, below = tmp_path / "runs" / "pipeline-1", tmp_path / "runs" / "pretrain-2"
    journal.describe_run(above, "digits 1", "bench", params={"seed": 0}, tags={"trainyard.stage": "pipeline"})
    write_run(below, parent=above)
    (tmp_path / "picture.txt").write_text("picture")
    driver = Journal(below / journal.STAGE_LOG)
    driver.write("begin", stage="pretrain")
    driver.write("text", text="hello")
    driver.write("artifact", path=str(tmp_path / "picture.txt"), folder="pictures")
    driver.write("artifact", path=str(tmp_path / "gone.txt"), folder="")
    driver.write("tag", name="verdict", value="fine")
    driver.write("end", status="FINISHED")
    with mirror.Mirror(above, below):
        pass
    parent, child = runs()
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.info.run_name == "pretrain"
    assert child.info.status == "FINISHED"
    assert child.data.params == {"lr": "0.1"}
    assert child.data.tags["verdict"] == "fine"
    assert points(child, "train/loss") == [(step, 1 / step) for step in range(1, 31)]
    assert points(child, "epoch/train/loss") == [(epoch, 2 / (10 * epoch)) for epoch in (1, 2, 3)]
    assert points(child, "epoch/validation/accuracy") == [(epoch, epoch / 10) for epoch in (1, 2, 3)]
    assert points(child, "epoch")[9] == (10, 1.0)
    assert child.inputs.dataset_inputs[0].dataset.digest == "ab" * 16
    client = server.make_client(store)
    assert {file.path for file in client.list_artifacts(child.info.run_id)} == {"log.txt", "pictures"}


def test_a_shared_mirror_sends_for_all_stages_and_old_runs_at_the_end(store: str, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    write_run(folder / "old-1", name="old")
    os.utime(folder / "old-1" / journal.RUN, (0, 0))
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


def test_killed_anywhere_every_point_arrives_once(store: str, tmp_path: Path) -> None:
    """The note is lost after everything was sent, and everything is sent again."""
    folder = tmp_path / "runs" / "pretrain-1"
    write_run(folder).write("input", name="letters", digest="cd" * 32, profile={"train": 26})
    for _ in range(2):
        mirror.Mirror(folder).send()
        shutil.copy(folder / "mirror.json", tmp_path / "note")
        (folder / "mirror.json").unlink()
    (run,) = runs()
    assert len(points(run, "train/loss")) == 30
    assert len(points(run, "train/examples_per_second")) == 30
    data = {data.dataset.name: data.dataset.digest for data in run.inputs.dataset_inputs}
    assert data == {"digits": "ab" * 16, "letters": "cd" * 16}
    assert len(run.inputs.dataset_inputs) == 2


def exported_model(folder: Path) -> Path:
    """Write an untrained model of pictures of 8 x 8 pixels into `folder`, and return it."""
    section = {"use": "tasks.classification.Classification", "model": {"use": "models.softmax.Softmax"}}
    spec = Spec({"image": (8, 8, 1), "label": ()}, ("a", "b"), {"mean": [0.4], "std": [0.2]})
    exported.write_model(folder, recipe.build(section, Task).setup(spec), spec, section)
    return folder


def write_run_with_model(folder: Path) -> None:
    """Write a run that registers an exported model as `digits`."""
    lines, example = write_run(folder), folder / "example.npz"
    model = exported_model(folder.parent.parent / "model")
    np.savez(example, image=np.zeros((2, 8, 8, 1), np.uint8))  # type: ignore[arg-type]
    lines.write(
        "model",
        name="digits",
        path=str(model),
        digest="cd" * 32,
        inputs={"image": ("uint8", [8, 8, 1])},
        outputs={"label": ("int64", [])},
        example=str(example),
        requirements=[],
    )


def registered_models(folder: Path) -> tuple[int, int, list[str]]:
    """Return (number of runs, number of logged models, versions of `digits`) at the tracker."""
    client = server.make_client(server.tracking_uri())
    experiment = client.get_experiment_by_name("bench").experiment_id
    id = json.loads((folder / journal.RUN).read_text())["id"]
    same = [run for run in client.search_runs([experiment]) if run.data.tags["trainyard.id"] == id]
    logged = client.search_logged_models([experiment], f"source_run_id = '{same[0].info.run_id}'")
    return len(same), len(logged), [str(v.version) for v in client.search_model_versions("name = 'digits'")]


@pytest.mark.parametrize("killed", ["create_model_version", "search_model_versions", "save_note", "log_model"])
def test_a_mirror_killed_while_it_registers_a_model_registers_one(
    killed: str, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first mirror dies right after the call `killed`, whose work is done but not noted."""
    import mlflow.pyfunc  # the module itself: `mlflow.pyfunc` is a lazy proxy before

    folder = tmp_path / "runs" / "evaluate-1"
    write_run_with_model(folder)
    owner = {"save_note": replay.RunReplay, "log_model": mlflow.pyfunc}.get(killed, mlflow.MlflowClient)
    call = getattr(owner, killed)

    def call_and_die(*arguments: Any, **options: Any) -> None:
        call(*arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(owner, killed, call_and_die)
        with pytest.raises(KeyboardInterrupt):
            mirror.Mirror(folder).send()
    mirror.Mirror(folder).send()
    assert registered_models(folder) == (1, 1, ["1"])
    assert len(points(runs()[0], "train/loss")) == 30


def test_a_model_that_was_half_logged_is_removed_and_logged_again(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    folder = tmp_path / "runs" / "evaluate-1"
    write_run_with_model(folder)

    def stop(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "finalize_logged_model", stop)
        with pytest.raises(KeyboardInterrupt):
            mirror.Mirror(folder).send()
    client = server.make_client(store)
    experiment = client.get_experiment_by_name("bench").experiment_id
    assert [str(model.status) for model in client.search_logged_models([experiment])] != ["READY"]
    mirror.Mirror(folder).send()
    assert [str(model.status) for model in client.search_logged_models([experiment])] == ["READY"]
    assert registered_models(folder) == (1, 1, ["1"])


def test_a_run_resumed_from_a_checkpoint_duplicates_no_point(store: str, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "pretrain-1"
    write_run(folder)
    mirror.Mirror(folder).send()
    write_steps(Journal(folder / journal.LOG, position=21), range(11, 36))
    mirror.Mirror(folder).send()
    for name in ("train/loss", "train/examples_per_second"):
        assert [step for step, _ in points(runs()[0], name)] == list(range(1, 36)), name
    assert [step for step, _ in points(runs()[0], "epoch/validation/accuracy")] == [1, 2, 3]
    assert mirror.audit_metrics(folder)[1:] == (0, 0)
    assert superseded(runs()[0]) == []


def superseded(run: Any) -> list[str]:
    """Return the run's tags about superseded points."""
    return [value for name, value in sorted(run.data.tags.items()) if name.startswith("superseded.")]


def test_points_that_a_rewind_revokes_are_audited_and_marked(store: str, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "pretrain-1"
    write_run(folder, steps=8)
    mirror.Mirror(folder).send()
    for attempt in (1.5, 2.0):  # two restarts from step 5, each with other values up to step 7
        lines = Journal(folder / journal.LOG, position=10)
        for step in (6, 7):
            lines.write("metric", step=step, epoch=step / 10, values={"train/loss": attempt})
        mirror.Mirror(folder).send()
    run = runs()[0]
    assert [step for step, _ in points(run, "train/loss")] == [1, 2, 3, 4, 5, 6, 6, 6, 7, 7, 7, 8]
    # steps 1 to 5 with loss, epoch and speed, steps 6 and 7 without the speed; step 8 stands no more
    assert mirror.audit_metrics(folder) == (19, 0, 13)
    first, second = superseded(run)
    assert "steps 6 to 8 were run again and came out differently" in first
    assert "(9 points up to " in first
    assert "steps 6 to 7 " in second
    assert "(4 points up to " in second
    (folder / "mirror.json").unlink()
    mirror.Mirror(folder).send()
    assert mirror.audit_metrics(folder) == (19, 0, 13), "sending all again adds no point"
    assert superseded(runs()[0]) == [first, second]


def test_points_revoked_before_they_were_sent_never_arrive(store: str, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "pretrain-1"
    write_run(folder, steps=8)
    lines = Journal(folder / journal.LOG, position=10)
    lines.write_resume(step=5, before=["1 thread on A"], now=["2 threads on A"])
    for step in (6, 7):
        lines.write("metric", step=step, epoch=step / 10, values={"train/loss": 1.5})
    assert mirror.Mirror(folder).send() == 16 + 1 + 1 + 2
    run = runs()[0]
    assert [step for step, _ in points(run, "train/loss")] == [1, 2, 3, 4, 5, 6, 7]
    assert mirror.audit_metrics(folder) == (19, 0, 0)
    assert superseded(run) == []
    assert run.data.tags["resumed.5"] == "1 thread on A -> 2 threads on A"


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


def test_nothing_new_sends_nothing(store: str, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "pretrain-1"
    write_run(folder)
    assert mirror.Mirror(folder).send() > 60
    assert mirror.Mirror(folder).send() == 0


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
