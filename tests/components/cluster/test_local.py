"""Test the environment variables of a local cluster; tests/pipelines/commands/test_run.py loses and replaces one."""

from __future__ import annotations

import os

import pytest

from components.cluster.local import local_cluster

pytestmark = pytest.mark.cluster(lane=1)


def test_the_settings_of_an_outer_cluster_are_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    outer, new = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_gcs_rpc_server_reconnect_timeout_s"
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv(outer, "outer")
    monkeypatch.delenv(new, raising=False)
    with local_cluster():
        assert os.environ[outer] != "outer"
        assert new in os.environ
    assert os.environ[outer] == "outer"
    assert new not in os.environ
