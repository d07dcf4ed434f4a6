"""The local cluster: one that is lost is replaced, whatever its stage waits for. An interrupt ends stages in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from components.processes import BIN
from pipelines import door
from pipelines.commands import run
from pipelines.commands.dvc import repro
from pipelines.commands.dvc.repro import is_unfinished, reproduce, run_on_local_cluster

STAGE = """
import signal, sys, time
def save(*_):
    time.sleep(1)
    open("saved", "w").close()
    sys.exit(130)
signal.signal(signal.SIGINT, save)
open("begun", "w").close()
time.sleep(60)
"""
LOSES_ITS_NODE = """
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


def pipeline(folder: Path, stage: str) -> None:
    """One of a single stage, in a folder without git."""
    subprocess.run([BIN / "dvc", "init", "--no-scm", "-q"], cwd=folder, check=True)
    (folder / "stage.py").write_text(stage)
    (folder / "dvc.yaml").write_text(f"stages:\n  long:\n    cmd: {sys.executable} stage.py\n    outs: [out]\n")


def test_a_cluster_that_is_lost_is_replaced_and_the_stage_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    pipeline(tmp_path, LOSES_ITS_NODE)
    began = time.monotonic()
    assert run_on_local_cluster(reproduce) == 0
    assert time.monotonic() - began < 60, "the first stage would have slept for longer"
    assert "continuing on a new one" in capfd.readouterr().err
    first, second = ((tmp_path / name).read_text() for name in ("begun", "out"))
    assert first != second
    assert "RAY_ADDRESS" not in os.environ
    commands = [" ".join(process.cmdline()) for process in psutil.Process().children(recursive=True)]
    assert not [text for text in commands if first in text or second in text], "nothing of either is left"


def test_a_stages_exit_code_comes_through_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    pipeline(
        tmp_path, "import sys\nfrom pipelines import door\nsys.argv = ['trainyard', 'plan', 'no.yaml']\ndoor.run()"
    )
    assert reproduce() == 2
    (tmp_path / "stage.py").write_text("open('out', 'w').close()")
    assert reproduce() == 0
    (tmp_path / "stage.py").write_text("1 / 0")
    assert reproduce("--force") == 255, "dvc's own: a stage that said nothing"


def test_clusters_that_are_lost_again_and_again_are_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(repro, "MAX_CLUSTERS", 1)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    pipeline(tmp_path, LOSES_ITS_NODE)
    assert door.exit_code(lambda: run_on_local_cluster(reproduce)) == 75
    assert "not now: the local Ray cluster was lost" in capfd.readouterr().err


@pytest.mark.parametrize("reach", ["the group, as Ctrl-C does", "the command alone, in the background, as services do"])
def test_an_interrupt_lets_the_stage_save_and_dvc_end(reach: str, tmp_path: Path) -> None:
    alone = reach.startswith("the command")
    pipeline(tmp_path, STAGE)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    command = subprocess.Popen(
        [sys.executable, "-c", COMMAND],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=(lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) if alone else None,
    )
    try:
        until = time.monotonic() + 60
        while not (tmp_path / "begun").exists() and time.monotonic() < until:
            time.sleep(0.05)
        if alone:
            command.terminate()
        else:
            os.killpg(command.pid, signal.SIGINT)
        told = command.communicate(timeout=60)[1]
    finally:
        command.kill()
    assert command.returncode == 130, told
    assert (tmp_path / "saved").exists()
    assert "interrupted" in told
    status = subprocess.run([BIN / "dvc", "status"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert status.returncode == 0, status.stderr  # no lock is left


def test_dvc_is_not_asked_where_something_is_known_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    begun = tmp_path / "begun"
    assert is_unfinished([], begun), "nothing was ever run"
    (tmp_path / "dvc.lock").touch()
    assert not is_unfinished([], begun)
    begun.write_text("one two")
    assert is_unfinished(["one", "two"], begun), "it has not come to its end"
    assert not is_unfinished([], begun), "that was another command"


def test_a_part_of_the_pipeline_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run._print_results(["prepare"]) == 0
    assert "no summary before the last stage" in capsys.readouterr().out
    assert door.exit_code(lambda: run._print_results([])) == 2, "the whole one would have left a result"
