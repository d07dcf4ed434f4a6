"""Addresses of a tracker: passwords are moved out of them and never shown; those without a host are refused."""

from __future__ import annotations

import os

import pytest

from components.errors import Refusal
from components.tracking import server


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://bob:p@host:5000", "http://host:5000"),
        ("http://bob:p@ss@host:5000", "http://host:5000"),
        ("http://bob:p/s:s@host:5000/at", "http://host:5000/at"),
        ("http://bob:123456/7?#@host", "http://host"),
        ("http://bob@host", "http://host"),
        ("postgresql+psycopg2://bob:p/ss@host/db", "postgresql+psycopg2://host/db"),
        ("can't reach http://bob:p@s/s@host:5000, nor x@y", "can't reach http://host:5000, nor x@y"),
        # An @ elsewhere does not end a password.
        ("http://host:5000/a@b?c=d@e#f@g", "http://host:5000/a@b?c=d@e#f@g"),
        ("http://host?a@b", "http://host?a@b"),
        ("http://[::1]:5000/a@b", "http://[::1]:5000/a@b"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("s3://bucket/a:b@c", "s3://bucket/a:b@c"),
        ("ask me@example.org about http://host", "ask me@example.org about http://host"),
    ],
)
def test_no_part_of_a_password_is_shown(address: str, shown: str) -> None:
    assert server.hide_credentials(address) == shown


def test_a_password_of_any_characters_is_moved_out_of_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")  # and is restored after the test
    for password in ("p", "p@ss", "p/ss", "a:b@c/d?e#f", "%40"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://bob:{password}@127.0.0.1:5000")
        assert (
            server.tracking_uri()
            == server.tracking_uri()
            == os.environ["MLFLOW_TRACKING_URI"]
            == "http://127.0.0.1:5000"
        )
        assert os.environ["MLFLOW_TRACKING_USERNAME"] == "bob"
        assert os.environ["MLFLOW_TRACKING_PASSWORD"] == password.replace("%40", "@")


@pytest.mark.parametrize("address", ["http://h:notaport", "http://h:99999", "http://", "http://[::1", "https://bob:p@"])
def test_an_address_without_a_host_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(Refusal, match="is not the address of a server; write one such as http://HOST:5000") as refused:
        server.tracking_uri()
    assert "bob" not in str(refused.value)
