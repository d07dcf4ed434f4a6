"""Workers that wait: they serve who comes next, no more of them than were wanted, and on a kept cluster alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from components.cluster import connection, prestart, spread
from components.search import ray_tune
from components.search.objective import Objective, Rung
from components.training.peers import Peers

pytestmark = pytest.mark.cluster(lane=1)


def waiting(address: str, least: int) -> set[int]:
    """Process ids of the cluster's idle workers, once there are `least` of them and none is starting."""
    until = time.monotonic() + 60
    while True:
        found, starting = set(), False
        for process in psutil.process_iter(["cmdline"]):
            title = " ".join(process.info["cmdline"] or []).strip()
            if title == "ray::IDLE" or "default_worker.py" in title:
                with suppress(psutil.Error):  # it has ended meanwhile
                    raylet = process.parent()
                    if raylet is not None and address in " ".join(raylet.cmdline()):
                        found |= {process.pid} if title == "ray::IDLE" else set()
                        starting = starting or title != "ray::IDLE"
        if len(found) >= least and not starting:
            return found
        assert time.monotonic() < until, f"{len(found)} of {least}"
        time.sleep(0.2)


def who(peers: Peers) -> list[int]:
    return peers.gather(os.getpid())


def test_they_serve_the_next_run(cluster_of_two: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_WORKERS", "2")
    connection.connect()
    prestart.prestart_workers(2)
    ready = waiting(cluster_of_two, 2)
    assert set(spread.run_on_workers(who, name="test", folder=tmp_path)) <= ready


def test_those_that_wait_for_the_first_driver_serve_it(tmp_path: Path) -> None:
    """Ray would end them as soon as a placement group has taken the processors, just before they are asked for."""
    code = """
from pathlib import Path
from components.cluster import connection, spread
from components.cluster.local import local_cluster
from tests.components.cluster.test_prestart import waiting, who
with local_cluster(cpus=2) as address:
    connection.connect()
    ready = waiting(address, 2)
    print("the same:", set(spread.run_on_workers(who, name="test", folder=Path("ray"))) == ready)
    connection.disconnect()
"""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", prestart.KEPT_CLUSTER)
    }
    environment |= {"TRAINYARD_WORKERS": "2", "TRAINYARD_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "the same: True\n", done.stdout + done.stderr


def test_who_waits_already_is_counted(cluster_of_two: str) -> None:
    connection.connect()
    prestart.prestart_workers(1)
    before = waiting(cluster_of_two, 1)
    prestart.prestart_workers(len(before))
    prestart.prestart_workers(len(before) + 1)
    assert len(waiting(cluster_of_two, len(before) + 1)) == len(before) + 1


def test_a_stage_leaves_some_for_the_next_one(
    cluster_of_two: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.stage import context

    monkeypatch.chdir(tmp_path)
    asked: list[int] = []
    monkeypatch.setattr(prestart, "prestart_workers", asked.append)
    for name in ("finetune", context.LAST_STAGE):
        with context.stage(name, {"name": "test"}, {}, []):
            pass
    assert asked == [2], "a worker for each processor; none after the last"


def score_process(rung: Rung) -> dict[str, float]:
    """Return this process' id as the score."""
    return {"accuracy": float(os.getpid())}


def test_they_serve_a_search(cluster_of_two: str, tmp_path: Path) -> None:
    connection.connect()
    prestart.prestart_workers(2)
    ready = waiting(cluster_of_two, 2)
    objective = Objective(score_process, {"a": {}}, 1, ("accuracy", "max"))
    trials = ray_tune.search(objective, tmp_path, space={"lr": {"choices": [1, 2]}}, sampler="grid")["a"]
    assert {int(trial.scores["accuracy"]) for trial in trials} <= ready


def test_no_other_cluster_is_asked(cluster_of_two: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(prestart, "_ask", asked.append)
    prestart.prestart_workers(1)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    prestart.prestart_workers(2)
    monkeypatch.delenv("RAY_ADDRESS")
    prestart.prestart_workers(3)
    assert asked == [1]


def test_a_raylet_that_does_not_answer_is_no_error(
    cluster_of_two: str, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    import ray

    node = {"Alive": True, "NodeManagerAddress": "127.0.0.1", "NodeManagerPort": 1}
    monkeypatch.setattr(ray, "nodes", lambda: [node])
    prestart.prestart_workers(1)
    assert "no worker is started in advance" in caplog.text
