"""Whoever starts a process group ends all of it: after the block, on every signal, and when it is killed itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from components import network
from components.processes import process_group
from components.tracking.local_store import sqlite_address

ROOT = Path(__file__).parents[2]
STUBBORN = "trap '' TERM; sleep 1000 & sleep 1000"  # sh ignores SIGTERM, and so do its children
STARTER = """
import signal, sys
from components.processes import process_group
from pipelines import door

signal.signal(signal.SIGTERM, door.interrupt)
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background ignores it
for number in (signal.SIGHUP, signal.SIGQUIT):
    signal.signal(number, signal.SIG_DFL)
with process_group(["sh", "-c", "sleep 1000 & sleep 1000"]) as process:
    print(process.pid, flush=True)
    process.wait()
"""


def members(group: int) -> list[psutil.Process]:
    """Return the processes of a group that still run."""
    running = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                running.append(process)
        except (psutil.Error, ProcessLookupError):
            continue
    return running


def wait_until_gone(group: int, patience: float = 15) -> None:
    deadline = time.monotonic() + patience
    while members(group):
        assert time.monotonic() < deadline, members(group)
        time.sleep(0.05)


def wait_for_members(group: int, count: int) -> None:
    deadline = time.monotonic() + 15
    while len(members(group)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("command", ["sleep 1000 & sleep 1000", "sleep 1000 & exit 3", STUBBORN])
def test_nothing_of_a_group_is_left_after_the_block(command: str) -> None:
    with process_group(["sh", "-c", command], patience=0.5) as process:
        wait_for_members(process.pid, 1 if "exit" in command else 3)
        if "exit" in command:
            assert process.wait() == 3
    assert members(process.pid) == []


def test_a_command_that_does_not_exist_leaves_nothing() -> None:
    before = len(psutil.Process().children())
    with pytest.raises(FileNotFoundError), process_group(["/no/such/program"]):
        pass
    assert len(psutil.Process().children()) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL])
def test_a_group_ends_with_the_process_that_started_it(number: signal.Signals) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", STARTER], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as starter:
        assert starter.stdout
        group = int(starter.stdout.readline())
        wait_for_members(group, 3)
        starter.send_signal(number)
        try:
            starter.wait(15)
        finally:
            starter.kill()
    wait_until_gone(group)


def test_the_port_of_trainyard_ui_is_free_after_it_was_killed(empty_store: Path, tmp_path: Path) -> None:
    """MLflow's server is a parent whose child serves on when the parent ends alone."""
    port = network.free_port()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": sqlite_address(empty_store)}
    (tmp_path / "params.yaml").write_text("name: digits\n")
    command = [sys.executable, "-m", "pipelines", "ui", f"--port={port}"]
    ui = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert network.accepts_connections(f"127.0.0.1:{port}", patience=90)
    finally:
        ui.kill()
        ui.wait()
    deadline = time.monotonic() + 20
    while network.accepts_connections(f"127.0.0.1:{port}"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
