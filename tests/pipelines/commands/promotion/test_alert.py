"""Alerts about outcomes: who gets them, and that a failing alert changes nothing."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from components.errors import Refusal, TryLater
from pipelines.commands.promotion import retrain
from pipelines.stage.lock import hold_lock
from tests.pipelines.yard import NAME, Yard, settings


@pytest.fixture
def listener():
    """Provide a local web server as (the messages it received, its address)."""
    messages: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            if self.path == "/slow":
                time.sleep(5)
            self.send_response(500 if self.path == "/broken" else 204)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield messages, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_command_and_a_web_address_get_alerts(yard: Yard, listener, monkeypatch) -> None:
    messages, address = listener
    monkeypatch.setenv("HOOK", address)
    command = ["sh", "-c", "cat > alert-$TRAINYARD_OUTCOME.json"]
    settings(alerts={"when": ["promoted", "failed"], "url": "$HOOK/x", "command": command})
    yard.train()
    retrain.main()
    assert [(message["outcome"], message["to"]["version"]) for message in messages] == [("promoted", "1")]
    assert json.loads(Path("alert-promoted.json").read_text()) == messages[0]
    yard.train(epochs=3, shuffled=True)
    retrain.main()
    assert len(messages) == 1  # "kept" is not among the chosen outcomes
    with hold_lock("retrain"), pytest.raises(TryLater):
        retrain.main()
    assert len(messages) == 1  # a second retrain that gives up is not a failure
    settings(gate={"level": 7})
    with pytest.raises(Refusal):
        retrain.main()
    assert messages[-1]["outcome"] == "failed"
    assert "retrain.gate.level: must be a number between 0 and 1" in messages[-1]["reasons"][0]


def test_an_alert_holds_no_password_that_an_error_quotes(yard: Yard, listener, monkeypatch) -> None:
    messages, address = listener
    monkeypatch.setenv("HOOK", address)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-of-the-store")
    settings(alerts={"when": ["failed"], "url": "$HOOK/x"})
    says = "dvc update failed: https://me:canary-77@data.example/new.csv: canary-of-the-store"

    def fail() -> list[str]:
        raise TryLater(says)

    monkeypatch.setattr(retrain.status, "update_imports", fail)
    with pytest.raises(TryLater):
        retrain.main(update=True)
    assert "https://data.example/new.csv" in messages[0]["reasons"][0]
    assert "canary" not in str(messages)


@pytest.mark.parametrize(
    ("alerts", "says"),
    [
        ({"url": "$LISTENER/slow"}, "timed out"),
        ({"url": "$LISTENER/broken"}, "500"),
        ({"url": "http://127.0.0.1:9/"}, "URLError"),
        ({"url": "$NOT_SET"}, "not an http(s) address"),
        ({"command": ["sh", "-c", "sleep 60 & sleep 60"]}, "TimeoutExpired"),
        ({"command": ["sh", "-c", "exit 3"]}, "exit code 3"),
        ({"command": ["/no/such/thing"]}, "FileNotFoundError"),
    ],
)
def test_alerts_that_fail_are_reported_in_one_line(alerts: dict, says: str, listener, monkeypatch) -> None:
    from components.verdicts.alerts import Alerts

    monkeypatch.setenv("LISTENER", listener[1])
    began = time.monotonic()
    (line,) = Alerts(seconds=0.5, **alerts).send("failed", {"model": NAME})
    assert says in line
    assert time.monotonic() - began < 20
