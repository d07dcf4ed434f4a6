"""The local cluster: a head that dies is told of, one that ends in order is not."""

from __future__ import annotations

import os
import time

import psutil
import pytest

from pipelines.run import local_cluster


def head(address: str) -> psutil.Process:
    """The `ray start` of this address: the test run's own cluster may be a child too."""
    until = time.monotonic() + 30
    while time.monotonic() < until:  # between fork and exec it has our own command line
        for process in psutil.Process().children():
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
