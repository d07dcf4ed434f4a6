"""`trainyard doctor` sends a real request to a real cluster: its token, and what is no cluster at all."""

from __future__ import annotations

import socket

import pytest

from components import network
from components.cluster import health
from components.errors import Refusal, TryLater

pytestmark = [pytest.mark.cluster(lane=1), pytest.mark.usefixtures("cluster_of_two")]


def test_a_cluster_answers_whoever_has_its_token(cluster_of_two: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert network.accepts_connections(cluster_of_two, patience=60)
    health.check_head(cluster_of_two)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "another" * 9)
    with pytest.raises(Refusal, match="refuses our token; RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH must hold"):
        health.check_head(cluster_of_two)
    monkeypatch.undo()
    health.check_head(cluster_of_two)


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_open_port_is_no_cluster(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"{scheme}127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(TryLater, match=f"RAY_ADDRESS={address}: does not answer"):
            health.check_head(address)
