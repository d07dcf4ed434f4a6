"""Plant a secret in each place where a user may put one; look for it in arguments, logs, tags, pages, jobs and git."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest

from components import network
from components.errors import Refusal
from components.safe_text import hide_secrets
from components.tracking import server
from components.verdicts.alerts import Alerts
from pipelines import door
from pipelines.commands.promotion import retrain
from tests.pipelines.yard import Yard, settings

ROOT = Path(__file__).parents[2]
CANARY = "canary-5f1c09"
IN_ENVIRONMENT = {
    "AWS_SECRET_ACCESS_KEY": f"{CANARY}-store",
    "DATABASE_URL": f"postgresql://me:{CANARY}-database@localhost/db",
    "HOOK": f"http://127.0.0.1:%d/services/{CANARY}-hook?key={CANARY}-query",
    "MLFLOW_TRACKING_PASSWORD": f"{CANARY}-tracker",
    "PGPASSWORD": f"{CANARY}-postgres",
    "RAY_AUTH_TOKEN": f"{CANARY}-ray",
    "TRAINYARD_WEBHOOK": f"https://hooks.example/{CANARY}-webhook",
}


def arguments_of_all_processes() -> str:
    return "\n".join(" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))


@pytest.fixture
def refusing_hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Serve an address that answers 404, and plant IN_ENVIRONMENT with it; yield the paths that were requested."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            paths.append(self.path)
            self.send_error(404, f"no such hook: {self.path}")

        def log_message(self, *arguments: object) -> None:
            pass

    listener = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    for name, value in IN_ENVIRONMENT.items():
        monkeypatch.setenv(name, value.replace("%d", str(listener.server_port)))
    yield paths
    listener.shutdown()


def test_retraining_with_alerts_writes_and_prints_no_secret(
    yard: Yard, refusing_hook: list[str], capfd: pytest.CaptureFixture
) -> None:
    """The command sees the secret in its environment; neither it nor the address is seen anywhere else."""
    command = ["sh", "-c", 'test -n "$PGPASSWORD" && ps -eo args > arguments && exit 3']
    settings(alerts={"when": ["promoted", "failed"], "url": "$HOOK", "command": command})
    yard.train()
    retrain.main()
    settings(gate={"level": 7})
    with pytest.raises(Refusal):
        retrain.main()
    output = "".join(capfd.readouterr())
    assert refusing_hook == [f"/services/{CANARY}-hook?key={CANARY}-query"] * 2
    assert "alert by url failed: HTTPError" in output
    assert "exit code 3" in output
    assert CANARY not in output
    assert "sh -c test" in Path("arguments").read_text()
    files = [file for file in Path().rglob("*") if file.is_file()]
    assert {"mlflow.db", "ledger.log", "arguments"} <= {file.name for file in files}
    assert [str(file) for file in files if CANARY.encode() in file.read_bytes()] == []


@pytest.mark.parametrize("error", ["control characters", "a port that is a word", "a scheme"])
def test_an_invalid_address_of_alerts_is_not_quoted(error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = {
        "control characters": f"http://127.0.0.1:9/{CANARY} x",
        "a port that is a word": f"http://127.0.0.1:{CANARY}/",
        "a scheme": f"{CANARY}://127.0.0.1/",
    }
    monkeypatch.setenv("HOOK", addresses[error])
    (line,) = Alerts(url="$HOOK").send("failed", {})
    assert CANARY not in line


@pytest.mark.parametrize(
    "alerts",
    [
        {"command": ["curl", "--header", "Authorization: Bearer $TOKEN", "https://example.org"]},
        {"command": ["notify", "${TOKEN}"]},
        {"url": f"https://hooks.example/services/{CANARY}"},
        {"url": f"https://hooks.example/?key={CANARY}"},
        {"url": f"https://me:{CANARY}@hooks.example"},
    ],
)
def test_secrets_in_recipes_or_arguments_are_refused(alerts: dict) -> None:
    with pytest.raises(Refusal) as refused:
        Alerts(**alerts)
    assert CANARY not in str(refused.value)


def test_the_server_of_the_pages_has_no_address_among_its_arguments(tmp_path: Path) -> None:
    port = network.free_port()
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/{CANARY}.db", "PYTHONPATH": str(ROOT)}
    environment.pop("RAY_ADDRESS", None)
    (tmp_path / "params.yaml").write_text("name: x\n")
    command = [sys.executable, "-m", "pipelines", "ui", f"--port={port}"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True, **quiet)
    try:
        assert network.accepts_connections(f"127.0.0.1:{port}", patience=120)
        assert f"--port={port}" in arguments_of_all_processes()
        assert (tmp_path / f"{CANARY}.db").is_file(), "the server uses it"
        assert CANARY not in arguments_of_all_processes()
    finally:
        for child in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
            child.kill()
        process.wait()


@pytest.mark.parametrize(
    "text",
    [
        f"http://me:{CANARY}@host/mlflow",
        f"postgresql://db/mlflow?user=me&password={CANARY}",
        f"postgresql://db/mlflow?sslpassword={CANARY}&sslmode=require",
        f"https://account.blob.example/c?sv=1&sig={CANARY}",
        f"could not reach https://host/x?access_token={CANARY}, nor y",
        f"https://host/x?key={CANARY}",
        f"https://host/x?a=b&api_key={CANARY}",
    ],
)
def test_addresses_are_shown_without_their_secrets(text: str) -> None:
    shown = server.hide_credentials(text)
    assert CANARY not in shown
    assert shown.partition("://")[0] == text.partition("://")[0]


def test_addresses_without_secrets_are_shown_as_they_are() -> None:
    address = "http://127.0.0.1:5000/#/experiments/1/runs?orderByKey=tags.%60mlflow.runName%60&orderByAsc=true"
    assert hide_secrets(address) == address


def test_what_a_command_prints_at_its_end_holds_no_secret(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    for name, value in IN_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    text = ", ".join(IN_ENVIRONMENT[name] for name in IN_ENVIRONMENT if name != "HOOK")

    def refuse() -> int:
        raise Refusal(f"no such thing: {text}")

    def fail() -> int:
        raise ValueError(text)

    assert door.exit_code(refuse) == 2
    monkeypatch.setattr(door, "main", fail)
    monkeypatch.setattr("os._exit", lambda code: None)
    monkeypatch.setattr("atexit._run_exitfuncs", lambda: None)
    door.run()
    errors = capfd.readouterr().err
    assert "no such thing: $AWS_SECRET_ACCESS_KEY" in errors
    assert "ValueError" in errors
    assert CANARY not in errors
    assert hide_secrets("a path /tmp/x stays") == "a path /tmp/x stays"


def test_the_name_of_the_current_folder_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell exports PWD; a printed crontab would otherwise change into $PWD."""
    monkeypatch.setenv("PWD", "/home/me/yard")
    monkeypatch.setenv("DB_PWD", "canary-88")
    assert hide_secrets("cd /home/me/yard; canary-88") == "cd /home/me/yard; $DB_PWD"


@pytest.mark.parametrize(
    "name", ["infra/.env", ".env", ".env.local", "services.env", "tracker.env", "infra/kuberay/x.env", "ca/server.key"]
)
def test_git_ignores_files_of_secrets(name: str) -> None:
    ignored = subprocess.run(["git", "check-ignore", "-q", name], cwd=ROOT, check=False)
    assert ignored.returncode == 0
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "infra/env.example" in tracked.splitlines()
