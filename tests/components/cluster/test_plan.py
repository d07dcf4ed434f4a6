"""Test how many workers and threads a stage gets; resources of the cluster are stubbed."""

from __future__ import annotations

import pytest

from components.cluster import plan
from components.cluster.plan import Plan, check_capacity, check_own_node, plan_workers, threads_per_worker
from components.errors import Refusal


def set_resources(monkeypatch: pytest.MonkeyPatch, **resources: float) -> None:
    monkeypatch.setattr("ray.cluster_resources", lambda: resources)


def test_more_workers_than_cpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    set_resources(monkeypatch, CPU=2.0)
    check_capacity(Plan(2, gpu=False), patience=0)
    check_capacity(Plan(4, gpu=False, min_workers=2), patience=0)
    with pytest.raises(Refusal, match=r"^3 workers need 3 CPUs, but the Ray cluster has only 2: lower TRAINYARD_WORK"):
        check_capacity(Plan(3, gpu=False), patience=0)
    set_resources(monkeypatch)
    with pytest.raises(Refusal, match=r"^1 worker needs 1 CPU, but the Ray cluster has only 0"):
        check_capacity(Plan(4, gpu=False, min_workers=1), patience=0)


def test_the_drivers_node_must_have_room_for_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    class Context:
        def get_node_id(self) -> str:
            return "own"

    nodes = [{"NodeID": "other", "Alive": True, "Resources": {"CPU": 8.0, "GPU": 8.0}}]
    nodes.append({"NodeID": "own", "Alive": True, "Resources": {"CPU": 1.0}})
    monkeypatch.setattr("ray.get_runtime_context", Context)
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    assert check_own_node(Plan(2, gpu=False)) == "own"
    with pytest.raises(Refusal, match="no folder with this machine, whose Ray node has no GPU for one of them: give"):
        check_own_node(Plan(2, gpu=True))


@pytest.mark.parametrize("setting", ["no", "0", "2:1", ":2", "1:", "1:2:3"])
def test_an_invalid_number_of_workers_is_refused(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_resources(monkeypatch, CPU=2.0)
    monkeypatch.setenv("TRAINYARD_WORKERS", setting)
    with pytest.raises(Refusal, match=f"TRAINYARD_WORKERS={setting}: must be"):
        plan_workers()


def test_requested_workers_are_planned_whatever_the_cluster_has(monkeypatch: pytest.MonkeyPatch) -> None:
    set_resources(monkeypatch, CPU=2.0)
    monkeypatch.setenv("TRAINYARD_WORKERS", "1:4")
    assert plan_workers() == Plan(4, gpu=False, min_workers=1)
    set_resources(monkeypatch, GPU=1.0)  # an autoscaler adds the others on request
    assert plan_workers() == Plan(4, gpu=True, min_workers=1)
    monkeypatch.setenv("TRAINYARD_WORKERS", "2")
    assert plan_workers() == Plan(2, gpu=False)


def test_each_cpu_gets_a_worker_as_far_as_parts_and_memory_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRAINYARD_WORKERS", raising=False)
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True}, {"Alive": True}, {"Alive": False}])
    set_resources(monkeypatch, CPU=8.0, memory=64e9)
    assert [plan_workers(parts).workers for parts in (None, 1, 4, 32)] == [2, 1, 4, 8]
    set_resources(monkeypatch, CPU=8.0, memory=4e9)
    assert plan_workers(4).workers == 2
    set_resources(monkeypatch, CPU=8.0, memory=1e9)
    assert plan_workers(4).workers == 1
    set_resources(monkeypatch, CPU=8.0, GPU=2.0)
    assert [plan_workers(parts) for parts in (None, 4, 1)] == [Plan(count, gpu=True) for count in (2, 2, 1)]
    monkeypatch.setenv("TRAINYARD_WORKERS", "3")
    assert plan_workers(1).workers == 3


def test_threads_depend_on_recipe_and_machine_not_on_nodes_or_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRAINYARD_WORKERS", "TRAINYARD_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(plan, "available_cores", lambda: 16)
    for workers in (1, 2, 4):  # the number that memory allows
        assert threads_per_worker(Plan(workers, gpu=False), parts=4) == 4
    assert threads_per_worker(Plan(2, gpu=False), parts=64) == 1
    assert threads_per_worker(Plan(2, gpu=False)) is None, "one worker per machine gets its share of the CPUs"
    assert threads_per_worker(Plan(2, gpu=True), parts=4) is None
    for workers in (1, 2, 4):  # of an elastic stage the most workers count, not the present ones
        assert threads_per_worker(Plan(8, gpu=False, min_workers=workers), parts=8) == 2
    monkeypatch.setenv("TRAINYARD_WORKERS", "3")
    assert threads_per_worker(Plan(3, gpu=False), parts=4) is None
    monkeypatch.setenv("TRAINYARD_THREADS", "5")
    assert threads_per_worker(Plan(2, gpu=True), parts=4) == 5


@pytest.mark.parametrize("setting", ["0", "two", "-1", "1.5", ""])
def test_an_invalid_number_of_threads_is_refused(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_THREADS", setting)
    with pytest.raises(Refusal, match=f"TRAINYARD_THREADS={setting}: must be a whole number of at least 1"):
        threads_per_worker(Plan(2, gpu=False))
