"""A local cluster that is lost is replaced, whatever its stage waits for, and an interrupt lets a stage save."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from components.cluster import private_folder
from components.errors import Refusal, TryLater
from components.processes import BIN
from pipelines import door
from pipelines.commands.dvc import locks, repro
from pipelines.commands.dvc.repro import is_unfinished, reproduce, run_on_local_cluster
from pipelines.commands.parser import build_parser

ROOT = Path(__file__).parents[4]
SAVING_STAGE = """
import signal, sys, time
def save(*_):
    time.sleep(1)
    open("saved", "w").close()
    sys.exit(130)
signal.signal(signal.SIGINT, save)
open("begun", "w").close()
time.sleep(60)
"""
NODE_LOSING_STAGE = """
import os, psutil, time
from pathlib import Path
from components.cluster import connection
address = os.environ["RAY_ADDRESS"]
if Path("begun").exists():
    Path("out").write_text(address)
else:
    Path("begun").write_text(address)
    connection.connect()
    commands = {p: " ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])}
    (raylet,) = [p for p, text in commands.items() if "raylet/raylet" in text and address in text]
    raylet.kill()
    time.sleep(100)
"""
COMMAND = """
import signal, sys
from pipelines import door
from pipelines.commands.dvc.repro import reproduce
signal.signal(signal.SIGTERM, door.interrupt)
sys.exit(door.exit_code(reproduce))
"""


def write_pipeline(folder: Path, stage: str) -> None:
    """Write a pipeline of one stage into a folder without git."""
    subprocess.run([BIN / "dvc", "init", "--no-scm", "-q"], cwd=folder, check=True)
    (folder / "stage.py").write_text(stage)
    (folder / "dvc.yaml").write_text(f"stages:\n  long:\n    cmd: {sys.executable} stage.py\n    outs: [out]\n")


def test_a_lost_cluster_is_replaced_and_the_stage_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    write_pipeline(tmp_path, NODE_LOSING_STAGE)
    began = time.monotonic()
    assert run_on_local_cluster(reproduce) == 0
    assert time.monotonic() - began < 60, "the first stage would have slept for longer"
    assert "continuing on a new one" in capfd.readouterr().err
    first, second = ((tmp_path / name).read_text() for name in ("begun", "out"))
    assert first != second
    assert "RAY_ADDRESS" not in os.environ
    commands = [" ".join(process.cmdline()) for process in psutil.Process().children(recursive=True)]
    assert not [text for text in commands if first in text or second in text], "no process of either cluster remains"


def test_a_stages_exit_code_passes_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    arguments = ["trainyard", "plan", "no.yaml"]
    write_pipeline(tmp_path, f"import sys; from pipelines import door; sys.argv = {arguments}; door.run()")
    assert reproduce() == 2
    (tmp_path / "stage.py").write_text("open('out', 'w').close()")
    assert reproduce() == 0
    (tmp_path / "stage.py").write_text("1 / 0")
    assert reproduce("--force") == 255, "dvc's own code, because the stage wrote none"


def test_the_command_gives_up_after_too_many_lost_clusters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(repro, "MAX_CLUSTERS", 1)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    write_pipeline(tmp_path, NODE_LOSING_STAGE)
    assert door.exit_code(lambda: run_on_local_cluster(reproduce)) == 75
    assert "not now: the local Ray cluster was lost" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("Exception: The current node timed out during startup.", "it did not start in time: this machine is too busy"),
        ("Ray runtime started.", "memory? trainyard doctor"),
    ],
)
def test_a_head_that_did_not_start_in_time_is_told_from_a_killed_one(
    line: str, cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(private_folder.VARIABLE, str(tmp_path))
    ended = subprocess.Popen(["true"])
    ended.wait()
    private_folder.write_head(tmp_path, ended.pid, "127.0.0.1:1")
    (tmp_path / "head.log").write_text(f"Traceback:\n{line}\n")
    assert repro._guess_cause() == cause
    monkeypatch.delenv(private_folder.VARIABLE)
    assert repro._guess_cause() == "memory? trainyard doctor", "another command has started it"


@pytest.mark.parametrize("reach", ["the group, as Ctrl-C does", "the command alone, in the background, as services do"])
def test_an_interrupt_lets_the_stage_save_and_dvc_end(reach: str, tmp_path: Path) -> None:
    is_alone = reach.startswith("the command")
    write_pipeline(tmp_path, SAVING_STAGE)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = subprocess.Popen(
        [sys.executable, "-c", COMMAND],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=(lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) if is_alone else None,
    )
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "begun").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        if is_alone:
            command.terminate()
        else:
            os.killpg(command.pid, signal.SIGINT)
        errors = command.communicate(timeout=60)[1]
    finally:
        command.kill()
    assert command.returncode == 130, errors
    assert (tmp_path / "saved").exists()
    assert "interrupted" in errors
    status = subprocess.run([BIN / "dvc", "status"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert status.returncode == 0, status.stderr


def test_a_budget_that_is_used_up_lets_the_stage_save_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pipeline(tmp_path, SAVING_STAGE)
    # The time is up as soon as the stage can save, however busy the machine is.
    monkeypatch.setattr(repro, "time", SimpleNamespace(monotonic=lambda: float(Path("begun").exists())))
    assert door.exit_code(lambda: reproduce(deadline=0.5)) == 130
    assert (tmp_path / "saved").exists()
    assert capsys.readouterr().err == (
        "trainyard: stopped: the budget is used up, and all progress is saved;"
        " repeat the command to continue from there\n"
    )
    (tmp_path / "stage.py").write_text("open('out', 'w').close()")
    assert reproduce(deadline=2.0) == 0, "a budget that suffices changes nothing"


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400)])
def test_a_budget_is_a_duration(text: str, seconds: float) -> None:
    assert build_parser().parse_args(["run", "--budget", text]).budget == seconds
    for wrong in ("", "2", "0h", "2 h", "-1h", "1d", "m"):
        with pytest.raises(Refusal, match="must be a time such as 90s"):
            build_parser().parse_args(["run", f"--budget={wrong}"])


def test_unfinished_work_is_noticed_without_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    started = tmp_path / "begun"
    assert is_unfinished([], started), "nothing was ever run"
    (tmp_path / "dvc.lock").touch()
    assert not is_unfinished([], started)
    started.write_text("one two")
    assert is_unfinished(["one", "two"], started), "the same command did not finish"
    assert not is_unfinished([], started), "that was another command"


def test_a_second_dvc_beside_a_running_one_ends_with_75(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    """dvc itself ends with 255, whatever is wrong."""
    monkeypatch.chdir(tmp_path)
    write_pipeline(tmp_path, SAVING_STAGE)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    first = subprocess.Popen([BIN / "dvc", "repro"], start_new_session=True, **quiet)
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "begun").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert door.exit_code(reproduce) == 75
        assert f"not now: another dvc (process {first.pid}) is at work" in capfd.readouterr().err
        monkeypatch.setattr(repro, "reproduce", lambda *targets: 75)
        with pytest.raises(TryLater):  # and not a Refusal, which a schedule would not repeat
            repro.reproduce_or_refuse()
    finally:
        os.killpg(first.pid, signal.SIGINT)  # to the stage as well, for whose end dvc waits
        first.wait()


def test_the_lock_of_another_dvc_command_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not locks.is_locked()
    locks.LOCK.parent.mkdir(parents=True)
    with locks.LOCK.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert locks.is_locked()
    assert not locks.is_locked()


@pytest.mark.parametrize("interrupts", [1, 3])
def test_an_interrupt_after_dvcs_end_is_still_an_interrupt(interrupts: int) -> None:
    """Check the moment in which dvc has ended, its group is gone, and nobody has looked yet."""
    process = subprocess.Popen(["true"], process_group=0)
    process.wait()
    pending = [KeyboardInterrupt] * interrupts

    def wait(seconds: float) -> int:
        if pending:
            raise pending.pop()
        return 0

    process.wait = wait  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyboardInterrupt):
        repro._wait_for_dvc(process, None, set())
