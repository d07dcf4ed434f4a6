"""Faults of a tracker that last are refused with a remedy before any work; those that time mends are not."""

from __future__ import annotations

import shlex
import shutil
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, nullcontext
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from urllib.error import HTTPError

import pytest
from mlflow.exceptions import MlflowException

from components import network
from components.errors import Refusal, TryLater
from components.tracking import local_store, probe, server
from pipelines import door

PAGE = "<html><title>Sign in</title></html>"


class Answer(ThreadingHTTPServer):
    """A server, or a proxy, that gives one answer to every request."""

    daemon_threads = True
    status = 200
    location: str | None = None  # to which all paths but /here redirect
    body = '{"experiments": []}'
    headers: str | None = None

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, 0), Handler)
        self.address = f"http://{network.join_address(host, self.server_port)}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    server: Answer

    def do_GET(self) -> None:
        self.server.headers = self.headers.get("Authorization")
        is_elsewhere = self.server.location is not None and self.path != "/here"
        self.send_response(302 if is_elsewhere else self.server.status)
        if is_elsewhere:
            self.send_header("Location", self.server.location)
        self.end_headers()
        self.wfile.write(self.server.body.encode())

    do_POST = do_GET

    def log_message(self, *arguments: object) -> None:
        """Log nothing."""


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answer]:
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Answer() as running:
        yield running
        running.shutdown()


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (200, PAGE, Refusal, "is not MLflow; check MLFLOW_TRACKING_URI"),
        (200, '{"status": "ok"}', Refusal, "is not MLflow"),
        (200, "[]", Refusal, "is not MLflow"),
        (401, "You are not authenticated.", Refusal, "401 Unauthorized (You are not authenticated.); set MLFLOW_TRACK"),
        (403, "Invalid Host header", Refusal, "403 Forbidden (Invalid Host header); start the tracker with this name"),
        (403, '{"error_code": "PERMISSION_DENIED", "message": "not yours"}', Refusal, "(not yours); the acc"),
        (404, PAGE, Refusal, "404 Not Found; what answers there is not MLflow"),
        (405, "", Refusal, "is not MLflow"),
        (500, '{"message": "Detected out-of-date database schema (found a, but expected b)"}', Refusal, "db upgrade"),
        (500, '{"error_code": "INTERNAL_ERROR", "message": "what?"}', TryLater, "500 Internal Server Error (what?)"),
        (502, PAGE, TryLater, "502 Bad Gateway"),
        (503, "busy", TryLater, "503 Service Unavailable (busy)"),
        (429, "", TryLater, "429 Too Many Requests"),
    ],
)
def test_every_answer_gets_its_status_reason_and_remedy(
    status: int, body: str, kind: type[Exception], says: str, answer: Answer
) -> None:
    answer.status, answer.body = status, body
    with pytest.raises(kind) as raised:
        probe.check_tracker(answer.address)
    assert says in str(raised.value)
    assert answer.address in str(raised.value)
    if kind is TryLater:
        probe.refuse_lasting_faults(answer.address)


def test_the_account_of_the_environment_is_sent(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "bob")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "p@:ss")
    probe.check_tracker(answer.address)
    assert answer.headers == "Basic Ym9iOnBAOnNz"


def test_a_redirect_to_another_host_does_not_take_the_account_along(
    answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "canary")
    with Answer() as other:
        answer.location = f"{other.address}/here"
        probe.check_tracker(answer.address)
        assert (answer.headers, other.headers) == ("Bearer canary", None)
        other.location = "/here"
        probe.check_tracker(other.address)
        assert other.headers == "Bearer canary", "on the same host it goes along"
        other.shutdown()


@pytest.mark.parametrize(("is_up", "kind"), [(True, Refusal), (False, TryLater)])
@pytest.mark.parametrize("status", [503, None])
def test_a_proxy_that_does_not_reach_a_server_is_in_the_way_if_the_server_is_up(
    status: int | None, is_up: bool, kind: type[Exception], answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer.status, answer.body = status or 200, PAGE
    proxy = answer.address if status else f"http://127.0.0.1:{network.free_port()}"
    monkeypatch.setenv("http_proxy", proxy.replace("http://", "http://me:secret-77@"))
    with Answer() as tracker:
        port = tracker.server_port if is_up else network.free_port()
        with pytest.raises(kind) as raised:
            probe.check_tracker(f"http://localhost:{port}")
        if is_up:
            assert f"the proxy {proxy} is in the way" in str(raised.value)
            assert str(raised.value).endswith("add the tracker's host to no_proxy")
            monkeypatch.setenv("no_proxy", "localhost")
            probe.check_tracker(f"http://localhost:{port}")
        assert "secret" not in str(raised.value)
        tracker.shutdown()


def test_https_where_a_server_speaks_http_is_refused(answer: Answer) -> None:
    with pytest.raises(Refusal, match="is it http:// instead of https://"):
        probe.check_tracker(answer.address.replace("http:", "https:"))


def test_an_ipv6_address_works() -> None:
    try:
        running = Answer("::1")
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with running:
        assert running.address.startswith("http://[::1]:")
        probe.check_tracker(running.address)
        assert network.host_and_port(f"{running.address}/mlflow") == f"[::1]:{running.server_port}"
        assert network.accepts_connections(f"[::1]:{running.server_port}")
        running.shutdown()


@pytest.fixture
def store(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copy(empty_store, tmp_path / "a b?.db"))


def set_version(store: Path, version: str) -> None:
    with closing(sqlite3.connect(store)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = ?", (version,))


def test_the_tables_of_this_mlflow_and_a_new_file_are_fine(store: Path) -> None:
    probe.check_tracker(local_store.sqlite_address(store))
    probe.check_tracker("sqlite:///new.db")
    assert not Path("new.db").exists()


def test_older_tables_are_refused_with_the_command_that_upgrades_them(store: Path) -> None:
    revisions, (newest,) = probe.schema_versions()
    assert len(revisions) > 50
    set_version(store, min(revisions - {newest}))
    address = local_store.sqlite_address(store)
    with pytest.raises(Refusal, match="of an older MLflow; back it up, then run: mlflow db upgrade") as refused:
        probe.check_tracker(address)
    command = shlex.split(str(refused.value).partition("then run: ")[2])
    assert command[:3] == ["mlflow", "db", "upgrade"]
    assert local_store.sqlite_file(command[3]) == store
    with pytest.raises(MlflowException, match="out-of-date"):
        server.make_client(address).search_experiments()


@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_URI", "MLFLOW_BACKEND_STORE_URI"])
def test_the_command_that_upgrades_a_database_has_its_user_and_shows_no_password(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command names the variable that holds the address, because every printed line loses users and passwords."""
    address = "postgresql://me:a-secret@db.example/mlflow"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    monkeypatch.setenv(variable, address)
    assert probe.upgrade_command(address) == f'mlflow db upgrade "${variable}"'


def test_newer_tables_are_refused(store: Path) -> None:
    set_version(store, "feedbeef0000")
    with pytest.raises(Refusal, match="of a newer MLflow than the one installed here"):
        probe.check_tracker(local_store.sqlite_address(store))


def test_files_that_are_no_database_of_mlflow_are_refused(store: Path) -> None:
    Path("other.db").write_bytes(b"no database at all, but long enough to be read as one" * 99)
    with closing(sqlite3.connect("theirs.db")) as database, database:
        database.execute("CREATE TABLE things (name TEXT)")
    cases = {
        "sqlite:///other.db": "file is not a database",
        "sqlite:///theirs.db": "a database of another program",
        "sqlite:////no/such/folder/mlflow.db": "/no/such/folder is not a folder that can be written",
        "./mlruns": "MLflow 3 keeps no runs in a folder; set it to sqlite:///mlflow.db",
        "file:///tmp/mlruns": "MLflow 3 keeps no runs in a folder",
        "postgresql://user@host:port/mlflow": "its port is not a number; check the address",
    }
    for address, says in cases.items():
        with pytest.raises(Refusal, match=says):
            probe.check_tracker(address)


def test_sync_ends_with_2_if_nothing_will_change_and_with_75_otherwise(
    tmp_path: Path, answer: Answer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".trainyard/runs").mkdir(parents=True)
    cases = {
        "./mlruns": (2, "keeps no runs in a folder"),
        answer.address: (2, "401 Unauthorized"),
        f"http://127.0.0.1:{network.free_port()}": (75, "does not answer (Connection refused); nothing is lost"),
    }
    answer.status = 401
    for address, (code, says) in cases.items():
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        assert door.main(["sync"]) == code
        assert says in capsys.readouterr().err


@pytest.mark.parametrize(("status", "is_fine"), [(404, True), (501, True), (403, False)])
def test_a_server_without_files_is_fine_and_a_refusal_is_not(
    status: int, is_fine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status is not looked for in the address, whose port begins like one."""

    def refuse(address: str, path: str) -> None:
        error = HTTPError(f"{address}{path}", status, "Because", Message(), BytesIO())
        raise probe._explain_status(error, address)

    monkeypatch.setattr(probe, "request", refuse)
    with nullcontext() if is_fine else pytest.raises(Refusal, match="403 Because"):
        probe.check_files("http://tracker:40450")


def test_a_warning_names_status_and_reason(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's own errors begin with an address and the names of classes, and their first lines hold no reason."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    def reason(address: str) -> str:
        with pytest.raises(MlflowException) as raised:
            server.make_client(address).search_experiments(max_results=1)
        return server.explain_failure(raised.value)

    answer.status = 500
    assert reason(answer.address) == "too many 500 error responses"
    answer.status, answer.body = 501, PAGE
    assert reason(answer.address) == "501 Not Implemented"
    answer.status, answer.body = 401, "You are not authenticated."
    assert reason(answer.address) == "401 Unauthorized (You are not authenticated.)"
    answer.status, answer.body = 403, '{"error_code": "PERMISSION_DENIED", "message": "not yours"}'
    assert reason(answer.address) == "403 PERMISSION_DENIED: not yours"
    assert reason(f"http://127.0.0.1:{network.free_port()}") == "Connection refused"
