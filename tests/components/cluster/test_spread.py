"""Functions spread over real Ray workers: what comes back, what is tried again, what the driver never imports."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from components import network
from components.cluster import connection, plan, spread
from components.errors import Refusal
from components.recipes import recipe
from components.training.peers import Peers

pytestmark = pytest.mark.cluster(lane=1)


def spread_two(function, *arguments, workers: int, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TRAINYARD_WORKERS", str(workers))
    monkeypatch.setenv("TRAINYARD_THREADS", "1")
    return spread.run_on_workers(function, *arguments, name="test", folder=folder / "ray")


@pytest.fixture
def two(cluster_of_two: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """spread over two workers."""
    return lambda function, *arguments: spread_two(
        function, *arguments, workers=2, folder=tmp_path, monkeypatch=monkeypatch
    )


def sums(peers: Peers, values: list[float]) -> tuple[int, list[float], str, int]:
    gathered = peers.gather(values[peers.rank])
    assert peers.all_gather(torch.tensor([values[peers.rank]])).tolist() == gathered
    assert peers.memory is not None, "on one machine"
    return peers.rank, gathered, str(Path.cwd()), torch.get_num_threads()


def test_it_runs_on_all_in_the_drivers_directory_and_returns_what_the_first_said(two) -> None:
    assert two(sums, [1.0, 2.0]) == (0, [1.0, 2.0], str(Path.cwd()), 1)


def width(peers: Peers, section: dict[str, Any]) -> int:
    sys.path.insert(0, str(Path.cwd()))  # as PYTHONPATH would, which is older than this test
    return int(recipe.build(section).width)


def test_workers_are_told_what_code_is_allowed(two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mylab.py").write_text(
        "class Wide:\n    def __init__(self, width: int) -> None:\n        self.width = width\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINYARD_ALLOW", "mylab")
    assert two(width, {"use": "mylab.Wide", "width": 3}) == 3
    monkeypatch.setenv("TRAINYARD_ALLOW", "other")
    with pytest.raises(Refusal, match="must be allowed by TRAINYARD_ALLOW=mylab"):
        two(width, {"use": "mylab.Wide", "width": 3})


def alone(peers: Peers) -> tuple[int, int]:
    return peers.rank, peers.size


def test_one_worker_needs_no_process_group(cluster_of_two: str, tmp_path: Path, monkeypatch) -> None:
    assert spread_two(alone, workers=1, folder=tmp_path, monkeypatch=monkeypatch) == (0, 1)


def beside(peers: Peers) -> list[str]:
    """What the raylet of this worker runs for any job."""
    peers.gather(0)
    raylet = psutil.Process().parent()
    assert raylet is not None
    titles = [" ".join(process.cmdline()).strip() for process in raylet.children()]
    names = [title.split("::")[1] for title in titles if title.startswith("ray::")]
    return [name for name in names if name != "IDLE" and not name.endswith("Agent")]  # those are the node's own


def test_no_process_is_started_but_the_workers(two) -> None:
    """Neither a controller nor one in which workers meet: components/cluster/controller.py."""
    found = two(beside)
    assert len(found) == 2, found
    assert all(name.startswith("RayTrainWorker") for name in found), found


def refuse(peers: Peers) -> None:
    peers.gather(0)
    if peers.rank == 1:
        raise Refusal("data/raw: missing; put it there")
    peers.gather(0)


def test_a_refusal_comes_back_as_it_is(two) -> None:
    with pytest.raises(Refusal) as refused:
        two(refuse)
    assert str(refused.value) == "data/raw: missing; put it there"


def fail(peers: Peers, folder: str) -> None:
    Path(folder, f"called-{os.getpid()}").touch()
    raise ZeroDivisionError("our own mistake")


def test_an_error_of_our_own_is_not_tried_again_and_keeps_its_traceback(two, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        two(fail, str(tmp_path))
    note = "\n".join(raised.value.__notes__)
    assert "on worker" in note
    assert 'raise ZeroDivisionError("our own mistake")' in note
    assert len(list(tmp_path.glob("called-*"))) <= 2


def die_once(peers: Peers, folder: str) -> str:
    marker = Path(folder, "died")
    peers.gather(0)
    if peers.rank == 1 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return f"{peers.size} again: {peers.gather(peers.rank)}"


def test_a_killed_worker_is_replaced_and_the_function_called_again(two, tmp_path: Path) -> None:
    assert two(die_once, str(tmp_path)) == "2 again: [0, 1]"
    assert (tmp_path / "died").exists()


def test_more_workers_than_processors_are_refused(cluster_of_two: str, monkeypatch) -> None:
    connection.connect()
    with pytest.raises(Refusal, match="3 workers need 3 CPUs, but the Ray cluster has only 2"):
        plan.check_capacity(plan.Plan(3, gpu=False), patience=0)
    for wrong in ("no", "0", "2:1", ":2", "1:", "1:2:3"):
        monkeypatch.setenv("TRAINYARD_WORKERS", wrong)
        with pytest.raises(Refusal, match=f"TRAINYARD_WORKERS={wrong}: must be"):
            plan.plan_workers()
    monkeypatch.setenv("TRAINYARD_WORKERS", "1:4")
    assert plan.plan_workers() == plan.Plan(4, gpu=False, min_workers=1)
    monkeypatch.setattr("ray.cluster_resources", lambda: {"GPU": 1.0})  # the others come when they are asked for
    assert plan.plan_workers() == plan.Plan(4, gpu=True, min_workers=1)
    monkeypatch.setenv("TRAINYARD_WORKERS", "2")
    assert plan.plan_workers() == plan.Plan(2, gpu=False)


def test_each_processor_gets_a_worker_as_far_as_the_work_can_be_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRAINYARD_WORKERS", raising=False)
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True}, {"Alive": True}, {"Alive": False}])
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 8.0, "memory": 64e9})
    chosen = [plan.plan_workers(parts).workers for parts in (None, 1, 4, 32)]
    assert chosen == [2, 1, 4, 8]
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 8.0, "memory": 4e9})
    assert plan.plan_workers(4).workers == 2
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 8.0, "memory": 1e9})
    assert plan.plan_workers(4).workers == 1
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 8.0, "GPU": 2.0})
    assert [plan.plan_workers(parts) for parts in (None, 4, 1)] == [plan.Plan(n, gpu=True) for n in (2, 2, 1)]
    monkeypatch.setenv("TRAINYARD_WORKERS", "3")
    assert plan.plan_workers(1).workers == 3


def test_threads_hang_on_the_recipe_and_the_machine_not_on_nodes_or_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRAINYARD_WORKERS", "TRAINYARD_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    for workers in (1, 2, 4):  # as many as there was memory for
        assert plan.threads_per_worker(plan.Plan(workers, gpu=False), parts=4) == 4
    assert plan.threads_per_worker(plan.Plan(2, gpu=False), parts=64) == 1
    assert plan.threads_per_worker(plan.Plan(2, gpu=False)) is None, "a worker a machine: its share of it"
    assert plan.threads_per_worker(plan.Plan(2, gpu=True), parts=4) is None
    for workers in (1, 2, 4):  # of an elastic stage the most, however many there are now
        assert plan.threads_per_worker(plan.Plan(8, gpu=False, min_workers=workers), parts=8) == 2
    monkeypatch.setenv("TRAINYARD_WORKERS", "3")
    assert plan.threads_per_worker(plan.Plan(3, gpu=False), parts=4) is None
    monkeypatch.setenv("TRAINYARD_THREADS", "5")
    assert plan.threads_per_worker(plan.Plan(2, gpu=True), parts=4) == 5
    for wrong in ("0", "two", "-1", "1.5", ""):
        monkeypatch.setenv("TRAINYARD_THREADS", wrong)
        with pytest.raises(Refusal, match=f"TRAINYARD_THREADS={wrong}: must be a whole number of at least 1"):
            plan.threads_per_worker(plan.Plan(2, gpu=False))


def test_workers_import_from_the_drivers_directory_and_the_driver_never_imports_torch(
    cluster_of_two: str, tmp_path: Path
) -> None:
    """DVC runs experiments in copies of the tree; ours is installed elsewhere, and the copy must win."""
    root = Path(__file__).parents[3]
    for name in ("components", "pipelines"):
        (tmp_path / name).mkdir()
    for file in [*root.glob("components/**/*.py"), *root.glob("pipelines/*.py")]:
        copied = tmp_path / file.relative_to(root)
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_text(file.read_text())
    (tmp_path / "pipelines" / "here.py").write_text("def where(peers):\n    return __file__\n")
    driver = """
        import sys
        from pathlib import Path
        from components.cluster import spread
        from pipelines import here
        print("WORKER", spread.run_on_workers(here.where, name="here", folder=Path("ray")))
        print("HEAVY", sorted({"torch", "mlflow"} & set(sys.modules)))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(driver)],
        cwd=tmp_path,
        env=os.environ | {"TRAINYARD_WORKERS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"WORKER {tmp_path}/pipelines/here.py" in done.stdout
    assert "HEAVY []" in done.stdout
    assert list((tmp_path / "ray").glob("here-*")) == []


def test_the_network_of_an_address_is_found() -> None:
    assert network.interface_of("127.0.0.1") in ("lo", "lo0")
    assert network.interface_of(network.external_address())
    assert network.interface_of("192.0.2.1") is None


def test_an_address_where_nothing_answers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "START_TIMEOUT", 0.0)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(Refusal, match="no Ray cluster answers there"):
        connection.connect()


@pytest.mark.parametrize("note", [None, "127.0.0.1:1"])
def test_auto_is_refused_at_once_where_no_cluster_runs(
    note: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr(connection, "CURRENT_CLUSTER", tmp_path / "ray_current_cluster")
    if note:  # of one that was killed
        connection.CURRENT_CLUSTER.write_text(note)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    began = time.monotonic()
    with pytest.raises(Refusal, match="RAY_ADDRESS=auto: no Ray cluster answers there"):
        connection.connect()
    assert time.monotonic() - began < 10


def test_auto_is_the_cluster_that_ray_noted_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr(connection, "CURRENT_CLUSTER", tmp_path / "ray_current_cluster")
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setenv(*next(iter(connection.LOOPBACK.items())))  # which connecting sets: it is taken back
    joined: list[str] = []
    monkeypatch.setattr("ray.init", lambda address, **options: joined.append(address))
    with socket.create_server(("127.0.0.1", 0)) as head:
        connection.CURRENT_CLUSTER.write_text(noted := f"127.0.0.1:{head.getsockname()[1]}\n")
        connection.connect()
        assert network.accepts_connections(connection.cluster_address())
    assert joined == [noted.strip()]


def test_a_token_is_made_for_nobody_elses_eyes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "deep" / "token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    connection.authenticate()
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(token := file.read_text()) == 64
    assert os.environ["RAY_AUTH_MODE"] == "token"
    file.chmod(0o644)
    monkeypatch.delenv("RAY_AUTH_MODE")
    connection.authenticate()
    assert file.stat().st_mode & 0o777 == 0o600, "one that others could read is closed"
    assert file.read_text() == token, "and kept"
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    connection.authenticate()
    assert os.environ["RAY_AUTH_MODE"] == "disabled", "whoever wants none gets none"


def test_a_cluster_on_loopback_is_joined_by_its_address_alone(cluster_of_two: str) -> None:
    """As from another shell: nothing else of the cluster's environment is known."""
    code = "from components.cluster import connection; connection.connect()\n"
    code += "import ray; print(ray.cluster_resources()['CPU'])"
    environment = {name: value for name, value in os.environ.items() if name not in connection.LOOPBACK}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=90)
    assert said.stdout == "2.0\n", said.stderr


@pytest.mark.slow
def test_who_has_no_token_is_not_let_in(cluster_of_two: str) -> None:
    """Slow, for Ray tries for half a minute."""
    code = "import ray; ray.init(address='auto')"
    environment = os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_ADDRESS": cluster_of_two}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert said.returncode != 0
    assert "InvalidAuthToken" in said.stderr


def test_nothing_of_the_cluster_can_be_reached_from_outside(cluster_of_two: str, tmp_path: Path) -> None:
    connection.connect()
    hosts = set()
    for process in psutil.process_iter(["cmdline"]):
        with contextlib.suppress(psutil.Error):
            if cluster_of_two.partition(":")[2] in " ".join(process.info["cmdline"] or []):
                hosts |= {c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    assert hosts
    assert hosts <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
