"""Test how a driver joins a cluster: addresses, tokens, and what other machines can reach."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from components import network
from components.cluster import connection, local, tokens
from components.errors import Refusal, TryLater

# The cluster starts before any test: Ray reads LOOPBACK, which the cluster sets, when it is imported.
pytestmark = [pytest.mark.cluster(lane=1), pytest.mark.usefixtures("cluster_of_two")]


def test_an_address_where_nothing_answers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "START_TIMEOUT", 0.0)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(Refusal, match="no Ray cluster answers there"):
        connection.connect()


@pytest.fixture
def note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of Ray's note, which RAY_ADDRESS=auto follows."""
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    (tmp_path / "ray").mkdir()
    return tmp_path / "ray" / "ray_current_cluster"


@pytest.mark.parametrize("address", [None, "127.0.0.1:1"])
def test_auto_is_refused_at_once_if_no_cluster_runs(address: str | None, note: Path) -> None:
    if address:  # of a killed cluster
        note.write_text(address)
    started = time.monotonic()
    with pytest.raises(Refusal, match="RAY_ADDRESS=auto: no Ray cluster answers there"):
        connection.connect()
    assert time.monotonic() - started < 10


def test_auto_is_the_cluster_that_ray_noted_on_this_machine(
    cluster_of_two: str, note: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined: list[str] = []
    monkeypatch.setattr(connection, "_initialize", lambda address: joined.append(address))
    note.write_text(f"{cluster_of_two}\n")
    assert network.accepts_connections(cluster_of_two, patience=60)
    connection.connect()
    assert joined == [cluster_of_two]


AS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user")
STRANGER = 65534  # user id


@AS_ROOT
def test_a_strangers_note_is_not_followed(cluster_of_two: str, note: Path) -> None:
    note.write_text(cluster_of_two)
    os.chown(note, STRANGER, STRANGER)
    with pytest.raises(Refusal, match="RAY_ADDRESS=auto: others can write"):
        connection.connect()
    os.chown(note, os.getuid(), os.getgid())
    note.chmod(0o666)
    with pytest.raises(Refusal, match="RAY_ADDRESS=auto: others can write"):
        connection.connect()
    note.rename(note.with_name("elsewhere"))
    note.symlink_to("elsewhere")
    with pytest.raises(Refusal, match="no Ray cluster answers there"):
        connection.connect()


@contextlib.contextmanager
def strange_listener(port: int = 0) -> Iterator[int]:
    """Listen on a port of loopback as another user; yield the port."""
    code = f"import socket, time; s = socket.create_server(('127.0.0.1', {port})); "
    code += "print(s.getsockname()[1], flush=True); time.sleep(600)"
    command = ["/usr/bin/env", "python3", "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, user=STRANGER, cwd="/") as process:
        try:
            assert process.stdout
            yield int(process.stdout.readline())
        finally:
            process.kill()


@AS_ROOT
def test_a_stranger_at_our_clusters_old_address_gets_no_token(note: Path) -> None:
    with strange_listener() as port:
        note.write_text(f"127.0.0.1:{port}")
        with pytest.raises(Refusal, match="is not a Ray cluster of this user"):
            connection.connect()


@AS_ROOT
def test_a_stranger_at_the_port_of_our_head_gets_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the port between its choice and the start of the head, which then ends and says why."""
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with strange_listener() as port:
        monkeypatch.setattr(local, "free_port", lambda: port)
        with (
            local.local_cluster(cpus=1),
            pytest.raises(TryLater, match=r"did not start.* last line was: .*GCS"),
        ):
            connection.connect()


DRIVER = """
import os, time
from pathlib import Path
from components.cluster import connection
connection.connect()
import ray
folder = Path(os.environ["RAY_AUTH_TOKEN_PATH"]).parent
mode = folder.stat().st_mode & 0o777
print(ray.get_runtime_context().gcs_address, folder, oct(mode), (folder / "token").read_text(), flush=True)
input()
ray.get(ray.remote(num_cpus=0)(lambda: time.sleep(100)).remote())
"""


@pytest.fixture(scope="module")
def own_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen, list[str]]]:
    """Connect in a process without RAY_ADDRESS, beside the running cluster; yield it and what it prints."""
    folder = tmp_path_factory.mktemp("x" * 120)
    keep = ("PATH", "LANG", "OMP_NUM_THREADS")
    environment = {name: os.environ[name] for name in keep if name in os.environ}
    environment |= {"HOME": str(folder), "TMPDIR": str(folder), "PYTHONPATH": str(Path(__file__).parents[3])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", DRIVER], env=environment, text=True, **pipes) as process:
        try:
            assert process.stdout
            yield process, process.stdout.readline().split()
        finally:
            process.kill()


def test_without_an_address_nothing_that_runs_is_joined(
    cluster_of_two: str, own_cluster: tuple[subprocess.Popen, list[str]]
) -> None:
    address, folder, mode, token = own_cluster[1]
    assert address != cluster_of_two
    assert address.startswith("127.0.0.1:")
    assert mode == "0o700"
    assert len(folder) < 38, "Ray's sockets fit below it, although TMPDIR is long"
    assert token != Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text()
    assert not list(Path(os.environ["RAY_AUTH_TOKEN_PATH"]).parents[1].glob("*/.ray")), "no token for good"


def test_a_lost_cluster_ends_the_driver_with_one_line(own_cluster: tuple[subprocess.Popen, list[str]]) -> None:
    process, (address, *_) = own_cluster
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()
    time.sleep(0.5)
    (raylet,) = (
        child for child in psutil.Process(process.pid).children() if "raylet/raylet" in " ".join(child.cmdline())
    )
    raylet.kill()
    output, errors = process.communicate(timeout=60)
    line = (
        f"trainyard: not now: the Ray cluster at {address} was lost, but nothing else: repeat the command to continue"
    )
    assert (process.returncode, output, errors) == (75, "", f"{line}\n")


def test_a_new_token_is_readable_by_its_owner_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "deep" / "token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    tokens.authenticate()
    assert file.stat().st_mode & 0o777 == 0o600
    token = file.read_text()
    assert len(token) == 64
    assert os.environ["RAY_AUTH_MODE"] == "token"
    file.chmod(0o644)
    monkeypatch.delenv("RAY_AUTH_MODE")
    tokens.authenticate()
    assert file.stat().st_mode & 0o777 == 0o600, "a token that others can read is closed"
    assert file.read_text() == token, "and stays the same"
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    tokens.authenticate()
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


def test_a_cluster_that_refuses_to_be_joined_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", lambda **options: 1 / 0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(Refusal, match=r"cannot join that cluster \(division by zero\).*RAY_AUTH_TOKEN"):
            connection.connect()
