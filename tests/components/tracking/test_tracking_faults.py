"""Work continues and nothing is lost if a tracker is slow, fails, hangs up, does not answer or is locked.

A proxy in front of a real MLflow server causes the faults.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from components import network
from components.tracking import mirror, server
from tests.components.tracking.sent_runs import registered_models, write_run, write_run_with_model

DELAY = 1.5  # seconds per answer of a slow tracker


class Proxy(ThreadingHTTPServer):
    """A proxy that handles requests as its mode says; in the mode `normal` it passes them on."""

    daemon_threads = True

    def __init__(self, upstream: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream = upstream
        self.mode = "normal"
        self.requests = 0
        self.unanswered: set[str] = set()  # paths whose answers were lost


class Handler(BaseHTTPRequestHandler):
    server: Proxy

    def log_message(self, *arguments: object) -> None:
        """Log nothing."""

    def answer(self) -> None:
        self.server.requests += 1
        body = b"".join(self.body())
        if self.server.mode == "error":
            self.send_response(500)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.server.mode == "hang up" or (self.server.mode == "every third" and self.server.requests % 3 == 0):
            self.connection.close()
            return
        if self.server.mode == "slow":
            time.sleep(DELAY)
        with closing(http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=30)) as upstream:
            own = ("host", "content-length", "transfer-encoding")
            headers = {k: v for k, v in self.headers.items() if k.lower() not in own}
            upstream.request(self.command, self.path, body, headers)
            response = upstream.getresponse()
            content = response.read()
        first = self.path.startswith("/api/2.0/mlflow/") and self.path not in self.server.unanswered
        if self.server.mode == "deaf" or (self.server.mode == "deaf once" and first):
            # The request was served, but its answer is lost: the client repeats it, and nothing may be duplicated.
            self.server.unanswered.add(self.path)
            self.connection.close()
            return
        self.send_response(response.status)
        for name, value in response.getheaders():
            if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding") != "chunked":
            yield self.rfile.read(int(self.headers.get("Content-Length") or 0))
            return
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder, port = tmp_path_factory.mktemp("tracker"), network.free_port()
    command = server.server_command(port, folder / "kept")
    environment = server.server_settings(f"sqlite:///{folder}/server.db")
    log = (folder / "log").open("w")
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        assert network.accepts_connections(f"127.0.0.1:{port}", patience=90)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def proxy(upstream: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    monkeypatch.chdir(tmp_path)
    proxy = Proxy(upstream)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{proxy.server_port}")
    yield proxy
    proxy.shutdown()
    proxy.server_close()


def assert_all_arrive(runs: Path, folder: Path) -> None:
    """Wait until all points have arrived, and check that each did once.

    A mirror that gave up may still run and hold the folder's lock.
    """
    until = time.monotonic() + 60
    while True:
        mirror.Mirror(runs).send()
        points, lost, duplicates = mirror.audit_metrics(runs)
        if (folder / "mirror.json").is_file() and not lost:
            break
        assert time.monotonic() < until
        time.sleep(0.5)
    assert points > 50
    assert duplicates == 0


@pytest.mark.parametrize("mode", ["slow", "error", "hang up", "deaf", "every third"])
def test_a_faulty_tracker_delays_nothing_and_gets_every_point_later(
    mode: str, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "PATIENCE", 2.0)
    runs = tmp_path / "runs"
    folder = runs / mode.replace(" ", "-")
    began = time.monotonic()
    with mirror.Mirror(folder):
        proxy.mode = mode
        write_run(folder, steps=40)
        wrote = time.monotonic() - began
    assert wrote < 5, "writing does not wait for the tracker"
    assert time.monotonic() - began < wrote + 2.0 + 5, "the end of a stage waits for PATIENCE and no longer"
    proxy.mode = "normal"
    assert_all_arrive(runs, folder)


def test_a_request_repeated_because_its_answer_was_lost_duplicates_nothing(proxy: Proxy, tmp_path: Path) -> None:
    """The server creates the run, the logged model and its version; every first answer is lost."""
    folder = tmp_path / "runs" / "evaluate-1"
    write_run_with_model(folder)
    proxy.mode = "deaf once"
    for _ in range(3):
        with contextlib.suppress(MlflowException):  # MLflow rejects some repeated requests; a mirror tries again
            mirror.Mirror(folder).send()
    mirror.Mirror(folder).send()
    proxy.mode = "normal"
    assert {"/api/2.0/mlflow/runs/create", "/api/2.0/mlflow/model-versions/create"} <= proxy.unanswered
    assert registered_models(folder) == (1, 1, ["1"])


def test_a_locked_database_is_waited_for(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shutil.copy(empty_store, tmp_path)}")
    monkeypatch.setattr(mirror, "PATIENCE", 2.0)
    folder = tmp_path / "runs" / "pretrain"
    lines = write_run(folder, steps=10)
    mirror.Mirror(folder).send()
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        with mirror.Mirror(folder):
            for step in range(11, 21):
                lines.write("metric", step=step, epoch=step / 10, values={"train/loss": 1 / step})
        assert time.monotonic() - began < 10
        other.rollback()
    assert_all_arrive(tmp_path / "runs", folder)
