"""How many workers a stage runs on and how many threads each of them uses."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass

from ..errors import Refusal, pluralize
from ..processes import available_cores

NODE_LABEL = "ray.io/node-id"  # with which Ray labels every node
MEMORY_PER_WORKER = 1.5e9  # bytes of the memory that Ray counts as free


@dataclass(frozen=True)
class Plan:
    """The workers of one run. They are chosen when a stage starts and are never a parameter of its result."""

    workers: int
    gpu: bool
    min_workers: int | None = None  # elastic: go on with this many when nodes are lost, grow again when they are back

    def __str__(self) -> str:
        return pluralize(self.workers, "GPU worker" if self.gpu else "worker")


@dataclass(frozen=True)
class Holdings:
    """The workers of a call, and the CPUs and GPUs of the cluster that they hold."""

    workers: int
    cpus: float
    gpus: float
    machines: int


def plan_holdings(parts: int | None = None) -> Holdings:
    """Return what the workers of `plan_workers(parts)` hold; without a cluster, one worker on this machine."""
    import ray

    if not ray.is_initialized():
        return Holdings(1, available_cores(), 0.0, 1)
    plan = plan_workers(parts)
    threads = threads_per_worker(plan, parts)
    total = float(ray.cluster_resources().get("CPU", 1))
    cpus = total if threads is None else min(total, float(threads * plan.workers))
    return Holdings(plan.workers, cpus, float(plan.workers if plan.gpu else 0), count_machines())


def count_machines() -> int:
    """Return the number of the cluster's machines; 1 without a cluster."""
    import ray

    return len([node for node in ray.nodes() if node["Alive"]]) if ray.is_initialized() else 1


def requested_workers() -> tuple[int | None, int] | None:
    """Return TRAINYARD_WORKERS as (least, most): `2` is (None, 2), `1:4` is (1, 4); None if it is not set."""
    text = os.environ.get("TRAINYARD_WORKERS")
    if text is None:
        return None
    match = re.fullmatch(r"(?:(\d+):)?(\d+)", text)
    least, most = match.groups() if match else (None, "0")
    if not 1 <= int(least or most) <= int(most):
        raise Refusal(f"TRAINYARD_WORKERS={text}: must be a whole number of at least 1, or a range such as 1:4")
    return int(least) if least else None, int(most)


def plan_workers(parts: int | None = None) -> Plan:
    """Return the workers that TRAINYARD_WORKERS asks for; otherwise one per GPU; otherwise one per CPU.

    parts: the number of parts into which the work can be cut, or None where one worker per machine is enough. Workers
    that were not asked for are never more than the parts, nor more than fit into the cluster's memory.
    """
    import ray

    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    if (request := requested_workers()) is not None:
        least, most = request
        return Plan(most, gpu=gpus >= (least or most), min_workers=least)
    if gpus:
        return Plan(min(gpus, parts or gpus), gpu=True)
    if parts is None:
        return Plan(count_machines(), gpu=False)
    fitting = int(resources.get("memory", MEMORY_PER_WORKER * parts) / MEMORY_PER_WORKER)
    return Plan(max(1, min(int(resources.get("CPU", 1)), parts, fitting)), gpu=False)


def threads_per_worker(plan: Plan, parts: int | None = None) -> int | None:
    """Return TRAINYARD_THREADS, or a number that follows from recipe and machine; None: a share of the machine's CPUs.

    The number of threads changes sums in their last bits. So nodes and free memory, which vary while the recipe stays
    the same, must not change it.
    """
    if (text := os.environ.get("TRAINYARD_THREADS")) is not None:
        if not re.fullmatch(r"[1-9]\d*", text):
            raise Refusal(f"TRAINYARD_THREADS={text}: must be a whole number of at least 1")
        return int(text)
    cores = available_cores()
    if plan.min_workers is not None:
        return max(1, cores // plan.workers)
    if requested_workers() is None and not plan.gpu and parts is not None:
        return cores // max(1, min(cores, parts))
    return None


def trials_per_gpu() -> int:
    """Return TRAINYARD_TRIALS_PER_GPU: the trials of a search that share a GPU; 1 if it is not set."""
    text = os.environ.get("TRAINYARD_TRIALS_PER_GPU", "1")
    if not re.fullmatch(r"[1-9]\d?", text):
        raise Refusal(f"TRAINYARD_TRIALS_PER_GPU={text}: must be a whole number from 1 to 99")
    return int(text)


def check_own_node(plan: Plan) -> str:
    """Return the id of the driver's node, for the first worker; refuse a node that can never run one."""
    import ray

    own = ray.get_runtime_context().get_node_id()
    resources: dict[str, float] = next(
        (node["Resources"] for node in ray.nodes() if node["NodeID"] == own and node["Alive"]), {}
    )
    for kind in ("CPU", "GPU") if plan.gpu else ("CPU",):
        if resources.get(kind, 0) < 1:
            raise Refusal(
                f"the workers share no folder with this machine, whose Ray node has no {kind} for one of them: give it"
                " one, or run from a folder that all machines share"
            )
    return own


def check_capacity(plan: Plan, patience: float = 15.0) -> None:
    """Refuse a plan that needs more CPUs than the cluster has after `patience` seconds: Ray would wait for ever."""
    import ray

    needed = plan.min_workers or plan.workers
    deadline = time.monotonic() + patience
    while (cpus := ray.cluster_resources().get("CPU", 0)) < needed:
        if time.monotonic() > deadline:
            request = "1 worker needs 1 CPU" if needed == 1 else f"{needed} workers need {needed} CPUs"
            raise Refusal(f"{request}, but the Ray cluster has only {cpus:g}: lower TRAINYARD_WORKERS or add nodes")
        time.sleep(0.5)
