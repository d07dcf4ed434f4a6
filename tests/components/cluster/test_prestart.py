"""Test workers started in advance: the next run uses them, there are never too many, only kept clusters have them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from components.cluster import connection, prestart, spread
from components.search import ray_tune
from components.search.objective import Objective, Rung
from components.training.peers import Peers

pytestmark = pytest.mark.cluster(lane=1)


def await_idle_workers(least: int) -> set[int]:
    """Return the process ids of the cluster's idle workers once there are `least` of them and none is starting."""
    import ray

    (socket,) = (node["RayletSocketName"] for node in ray.nodes() if node["Alive"])
    deadline = time.monotonic() + 60
    while True:
        waiting = prestart.find_waiting_workers(socket)
        if len(waiting) >= least and not any(waiting.values()):
            return set(waiting)
        assert time.monotonic() < deadline, f"{len(waiting)} of {least}"
        time.sleep(0.2)


def gather_pids(peers: Peers) -> list[int]:
    return peers.gather(os.getpid())


def test_the_next_run_uses_them(cluster_of_two: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_WORKERS", "2")
    connection.connect()
    prestart.prestart_workers(2)
    idle = await_idle_workers(2)
    assert set(spread.run_on_workers(gather_pids, name="test", folder=tmp_path)) <= idle


def test_the_first_run_uses_workers_started_for_the_first_driver(tmp_path: Path) -> None:
    """Ray would end them when a placement group takes the CPUs, just before they are requested."""
    code = """
from pathlib import Path
from components.cluster import connection, spread
from components.cluster.local import local_cluster
from tests.components.cluster.test_prestart import await_idle_workers, gather_pids
with local_cluster(cpus=2) as address:
    connection.connect()
    idle = await_idle_workers(2)
    print("the same:", set(spread.run_on_workers(gather_pids, name="test", folder=Path("ray"))) == idle)
    connection.disconnect()
"""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", prestart.KEPT_CLUSTER)
    }
    environment |= {"TRAINYARD_WORKERS": "2", "TRAINYARD_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
    driver = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert driver.stdout == "the same: True\n", driver.stdout + driver.stderr


def test_workers_that_already_wait_are_counted(cluster_of_two: str) -> None:
    connection.connect()
    prestart.prestart_workers(1)
    before = await_idle_workers(1)
    deadline = time.monotonic() + 60
    while time.sleep(2) or before != (before := await_idle_workers(1)):  # the raylet starts some on its own account
        assert time.monotonic() < deadline, "the number of waiting workers does not settle"
    for _ in range(3):  # the later requests find the new worker still starting
        prestart.prestart_workers(len(before) + 1)
    assert len(await_idle_workers(len(before) + 1)) == len(before) + 1


@pytest.mark.parametrize(
    ("title", "waits"),
    [
        ("raylet", {True}),  # forked, not yet replaced by the worker's program
        (" ", {True}),  # the title is being written
        ("python default_worker.py", {True}),
        ("ray::IDLE", {False}),
        ("ray::train", set()),
        ("ray::IDLE_SpillWorker", set()),
        ("python dashboard/agent.py", set()),
    ],
)
def test_each_child_of_the_raylet_is_counted_once_it_exists(title: str, waits: set[bool], tmp_path: Path) -> None:
    """Under load a worker is a copy of the raylet for long enough to be overlooked by a second request."""
    code = """
import os, sys
stdin, stdout = os.pipe()
if (child := os.fork()) == 0:
    os.dup2(stdin, 0)
    os.close(stdout)
    if sys.argv[2] != "raylet":
        os.execv("/bin/cat", [sys.argv[2]])
    os._exit(len(os.read(0, 1)))
while sys.argv[2] != "raylet" and open(f"/proc/{child}/comm").read() != "cat\\n":
    pass
print("ready", flush=True)
sys.stdin.read()
"""
    socket = str(tmp_path / "raylet")
    command = [sys.executable, "-c", code, f"--raylet_socket_name={socket}", title]
    raylet = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert raylet.stdout
    with raylet:
        assert raylet.stdout.readline() == b"ready\n"
        assert set(prestart.find_waiting_workers(socket).values()) == waits


def test_a_stage_starts_workers_for_the_next_one(
    cluster_of_two: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.stage import context

    monkeypatch.chdir(tmp_path)
    counts: list[int] = []
    monkeypatch.setattr(prestart, "prestart_workers", counts.append)
    for name in ("finetune", context.LAST_STAGE):
        with context.stage(name, {"name": "test"}, {}, []):
            pass
    assert counts == [2], "one worker per CPU; none after the last stage"


def score_process(rung: Rung) -> dict[str, float]:
    """Return this process' id as the score."""
    return {"accuracy": float(os.getpid())}


def test_a_search_uses_them(cluster_of_two: str, tmp_path: Path) -> None:
    connection.connect()
    prestart.prestart_workers(2)
    idle = await_idle_workers(2)
    objective = Objective(score_process, {"a": {}}, 1, ("accuracy", "max"))
    trials = ray_tune.search(objective, tmp_path, space={"lr": {"choices": [1, 2]}}, sampler="grid")["a"]
    assert {int(trial.scores["accuracy"]) for trial in trials} <= idle


def test_no_other_cluster_starts_workers(cluster_of_two: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    monkeypatch.setattr(prestart, "_request_workers", counts.append)
    prestart.prestart_workers(1)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    prestart.prestart_workers(2)
    monkeypatch.delenv("RAY_ADDRESS")
    prestart.prestart_workers(3)
    assert counts == [1]


def test_a_raylet_that_does_not_answer_is_only_logged(
    cluster_of_two: str, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    import ray

    node = {"Alive": True, "NodeManagerAddress": "127.0.0.1", "NodeManagerPort": 1}
    monkeypatch.setattr(ray, "nodes", lambda: [node])
    prestart.prestart_workers(1)
    assert "no worker is started in advance" in caplog.text
