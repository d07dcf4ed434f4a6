"""The local cluster: a head that dies is told of, one that ends in order is not."""

from __future__ import annotations

import os
import time

import psutil
import pytest

from pipelines.run import local_cluster


def head() -> psutil.Process:
    found = [p for p in psutil.Process().children() if "--head" in p.cmdline()]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("killed", [True, False])
def test_a_head_that_dies_is_told_of(killed: bool, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with local_cluster():
        until = time.monotonic() + 30
        while not any("--head" in p.cmdline() for p in psutil.Process().children()) and time.monotonic() < until:
            time.sleep(0.05)  # between fork and exec it has our own command line
        process = head()
        if killed:
            process.kill()
            while process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < until:
                time.sleep(0.05)
    assert ("repeat the command" in capsys.readouterr().err) == killed
    assert not process.is_running()
    assert "RAY_ADDRESS" not in os.environ
