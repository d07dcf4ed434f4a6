"""The end of a sandbox leaves none of its processes, whatever order they end in."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psutil
import pytest

from pipelines.commands.sandbox import Sandbox


def test_a_process_that_ended_by_itself_does_not_save_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check a child that ends with its parent, after both were listed."""
    children = [subprocess.Popen(["sleep", "60"]) for _ in range(2)]
    processes = [(psutil.Process(child.pid), "sleep 60") for child in children]
    children[0].kill()
    children[0].wait()
    monkeypatch.setattr(Sandbox, "processes", lambda self: processes)
    Sandbox(tmp_path, port=0).end()
    assert children[1].wait(10) == -9
