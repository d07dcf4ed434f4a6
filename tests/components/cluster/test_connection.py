"""Test how a driver joins a cluster: addresses, tokens, and what other machines can reach."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from components import network
from components.cluster import connection
from components.errors import Refusal

# The cluster starts before any test: Ray reads LOOPBACK, which the cluster sets, when it is imported.
pytestmark = [pytest.mark.cluster(lane=1), pytest.mark.usefixtures("cluster_of_two")]


def test_an_address_where_nothing_answers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "START_TIMEOUT", 0.0)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(Refusal, match="no Ray cluster answers there"):
        connection.connect()


@pytest.mark.parametrize("address", [None, "127.0.0.1:1"])
def test_auto_is_refused_at_once_if_no_cluster_runs(
    address: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr(connection, "CURRENT_CLUSTER", tmp_path / "ray_current_cluster")
    if address:  # of a killed cluster
        connection.CURRENT_CLUSTER.write_text(address)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    started = time.monotonic()
    with pytest.raises(Refusal, match="RAY_ADDRESS=auto: no Ray cluster answers there"):
        connection.connect()
    assert time.monotonic() - started < 10


def test_auto_is_the_cluster_that_ray_noted_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr(connection, "CURRENT_CLUSTER", tmp_path / "ray_current_cluster")
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setenv(*next(iter(connection.LOOPBACK.items())))  # `connect` sets it; the test restores it
    joined: list[str] = []
    monkeypatch.setattr("ray.init", lambda address, **options: joined.append(address))
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        connection.CURRENT_CLUSTER.write_text(f"{address}\n")
        connection.connect()
        assert network.accepts_connections(connection.cluster_address())
    assert joined == [address]


def test_a_new_token_is_readable_by_its_owner_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "deep" / "token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    connection.authenticate()
    assert file.stat().st_mode & 0o777 == 0o600
    token = file.read_text()
    assert len(token) == 64
    assert os.environ["RAY_AUTH_MODE"] == "token"
    file.chmod(0o644)
    monkeypatch.delenv("RAY_AUTH_MODE")
    connection.authenticate()
    assert file.stat().st_mode & 0o777 == 0o600, "a token that others can read is closed"
    assert file.read_text() == token, "and stays the same"
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    connection.authenticate()
    assert os.environ["RAY_AUTH_MODE"] == "disabled", "the user's choice is respected"


def test_a_cluster_on_loopback_can_be_joined_by_its_address(cluster_of_two: str) -> None:
    """Join it as from another shell, which has no other settings of the cluster."""
    code = "from components.cluster import connection; connection.connect()\n"
    code += "import ray; print(ray.cluster_resources()['CPU'])"
    environment = {name: value for name, value in os.environ.items() if name not in connection.LOOPBACK}
    driver = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=90)
    assert driver.stdout == "2.0\n", driver.stderr


@pytest.mark.slow
def test_a_driver_without_token_is_rejected(cluster_of_two: str) -> None:
    """Slow, because Ray tries for half a minute."""
    code = "import ray; ray.init(address='auto')"
    environment = os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_ADDRESS": cluster_of_two}
    driver = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert driver.returncode != 0
    assert "InvalidAuthToken" in driver.stderr


def test_other_machines_reach_no_port_of_the_cluster(cluster_of_two: str) -> None:
    connection.connect()
    port = cluster_of_two.partition(":")[2]
    hosts = set()
    for process in psutil.process_iter(["cmdline"]):
        with contextlib.suppress(psutil.Error):
            if port in " ".join(process.info["cmdline"] or []):
                sockets = process.net_connections("inet")
                hosts |= {each.laddr.ip for each in sockets if each.status == psutil.CONN_LISTEN}
    assert hosts
    assert hosts <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
