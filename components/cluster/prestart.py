"""Start workers before the next stage asks for them: waiting for them is the longest delay of a stage's start.

A new worker imports Ray Train and torch. Ray starts a worker on request and ends it with its actor, but a raylet can
also start workers in advance, which then serve the next request (by an RPC for which Ray has no function). At the end
of a stage on a cluster that is kept for several stages, the imports run while the next stage's driver starts.
"""

from __future__ import annotations

import logging
import os
import time

from ..network import join_address

KEPT_CLUSTER = "TRAINYARD_KEPT_CLUSTER"  # address of the kept cluster, for the processes for which it is kept
RAYLET_SETTINGS = {  # of a kept cluster
    "RAY_preload_python_modules": "torch,ray.train.v2._internal.execution.worker_group.worker",
    "GOMP_SPINCOUNT": "1000",  # as in spread.py; torch reads it when it is imported
}
MAX_IDLE_WORKERS = 4  # that wait for the next stage
IDLE_SECONDS = 60  # after which an unused worker ends
IDLE = "ray::IDLE"  # title of a worker that no job uses
RPC_TIMEOUT = 5.0  # seconds
START_TIMEOUT = 2.0  # seconds from the raylet's answer to the worker's process
log = logging.getLogger(__name__)


def is_kept_cluster() -> bool:
    """Return whether RAY_ADDRESS is a cluster whose raylet has RAYLET_SETTINGS."""
    return os.environ.get("RAY_ADDRESS", "") == os.environ.get(KEPT_CLUSTER)


def prestart_workers(count: int) -> None:
    """Start workers until `count` of them wait, on a kept cluster only; a failure is only logged."""
    if not is_kept_cluster():
        return
    try:
        _request_workers(count)
    except Exception as error:  # the next stage starts its own workers
        log.warning("no worker is started in advance: %s", error)


def _request_workers(count: int) -> None:
    """Ask the raylet to start as many workers as are missing to `count` idle or starting ones."""
    import ray
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated.node_manager_pb2 import PrestartWorkersRequest  # type: ignore[attr-defined]
    from ray.core.generated.node_manager_pb2_grpc import NodeManagerServiceStub

    (node,) = (node for node in ray.nodes() if node["Alive"])
    missing = max(0, count - len(find_waiting_workers(node["RayletSocketName"])))
    with init_grpc_channel(join_address(node["NodeManagerAddress"], node["NodeManagerPort"])) as channel:
        request = PrestartWorkersRequest(keep_alive_duration_secs=IDLE_SECONDS, num_workers=missing)
        request.runtime_env_info.serialized_runtime_env = "{}"
        NodeManagerServiceStub(channel).PrestartWorkers(request, timeout=RPC_TIMEOUT)
    deadline = time.monotonic() + START_TIMEOUT  # the raylet answers first; a second request must see the processes
    while missing and time.monotonic() < deadline and len(find_waiting_workers(node["RayletSocketName"])) < count:
        time.sleep(0.02)


def find_waiting_workers(raylet_socket: str) -> dict[int, bool]:
    """Return the raylet's workers that no job uses, by process id, and whether each still starts.

    A worker that starts is unknown to the raylet's own list; without it, two requests in a row would start too many.
    A child of the raylet that has neither an agent's nor a worker's title starts: for a moment it is a copy of the
    raylet, and for another its title is being written.
    """
    import psutil

    option = f"--raylet_socket_name={raylet_socket}"
    processes = [each.info for each in psutil.process_iter(["pid", "ppid", "cmdline", "status"])]
    raylets = {each["pid"] for each in processes if option in (each["cmdline"] or [])}
    waiting = {}
    for process in processes:
        if process["ppid"] in raylets and process["status"] != psutil.STATUS_ZOMBIE:
            title = " ".join(process["cmdline"] or []).strip()
            if title == IDLE or not (title.startswith("ray::") or "agent" in title):
                waiting[process["pid"]] = title != IDLE
    return waiting
