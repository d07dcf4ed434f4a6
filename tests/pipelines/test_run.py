"""The local cluster: a head that dies is told of, one that ends in order is not. An interrupt ends stages in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from pipelines.run import BIN, _known_to_do, local_cluster

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
COMMAND = """
import signal, sys
from pipelines import cli, run
signal.signal(signal.SIGTERM, cli._interrupt)
sys.exit(cli.answered(run.reproduce))
"""


def head(address: str) -> psutil.Process:
    """The `ray start` of this address: the test run's own cluster may be a child too."""
    until = time.monotonic() + 30
    while time.monotonic() < until:  # between fork and exec it has our own command line
        for process in psutil.Process().children():
            with suppress(psutil.ZombieProcess):  # of an earlier test
                if f"--port={address.rpartition(':')[2]}" in process.cmdline():
                    return process
        time.sleep(0.05)
    raise AssertionError(f"no head for {address}")


@pytest.mark.parametrize("killed", [True, False])
def test_a_head_that_dies_is_told_of(killed: bool, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with local_cluster() as address:
        process = head(address)
        if killed:
            process.kill()
            until = time.monotonic() + 30
            while process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < until:
                time.sleep(0.05)
    assert ("repeat the command" in capsys.readouterr().err) == killed
    assert not process.is_running()
    assert "RAY_ADDRESS" not in os.environ


def test_a_cluster_within_anothers_gives_its_settings_back(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_gcs_rpc_server_reconnect_timeout_s")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv(names[0], "outer")
    monkeypatch.delenv(names[1], raising=False)
    with local_cluster():
        assert os.environ[names[0]] != "outer"
        assert names[1] in os.environ
    assert os.environ[names[0]] == "outer"
    assert names[1] not in os.environ


@pytest.mark.parametrize("reach", ["the group, as Ctrl-C does", "the command alone, in the background, as services do"])
def test_an_interrupt_lets_the_stage_save_and_dvc_end(reach: str, tmp_path: Path) -> None:
    alone = reach.startswith("the command")
    subprocess.run([BIN / "dvc", "init", "--no-scm", "-q"], cwd=tmp_path, check=True)
    (tmp_path / "stage.py").write_text(STAGE)
    (tmp_path / "dvc.yaml").write_text(f"stages:\n  long:\n    cmd: {sys.executable} stage.py\n    outs: [out]\n")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
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
    assert _known_to_do([], begun), "nothing was ever run"
    (tmp_path / "dvc.lock").touch()
    assert not _known_to_do([], begun)
    begun.write_text("one two")
    assert _known_to_do(["one", "two"], begun), "it has not come to its end"
    assert not _known_to_do([], begun), "that was another command"
