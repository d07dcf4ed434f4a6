"""Workers that wait for the next stage: longest a stage waits for processes that import Ray Train and torch.

Ray starts a worker when one is asked for, and ends it with its actor. A raylet can start some in advance, which then
serve whoever comes next (of its RPCs, one for which Ray has no function). Done at the end of a stage, on a cluster that
is kept on this machine for several: what they import is imported while the next stage's driver starts.
"""

from __future__ import annotations

import logging
import os

KEPT_CLUSTER = "TRAINYARD_KEPT_CLUSTER"  # its address, for the processes that it is kept for
RAYLET_SETTINGS = {  # settings of a kept cluster
    "RAY_preload_python_modules": "torch,ray.train.v2._internal.execution.worker_group.worker",
    "GOMP_SPINCOUNT": "1000",  # of cluster.py's workers; read when torch is imported
}
MAX_IDLE_WORKERS = 4  # at most so many wait for the next stage
IDLE_SECONDS = 60  # seconds until those that nobody wanted end
PATIENCE = 5.0  # seconds for the raylet's answers
log = logging.getLogger(__name__)


def is_kept_cluster() -> bool:
    """Whether RAY_ADDRESS is a cluster whose raylet has the settings above."""
    return os.environ.get("RAY_ADDRESS", "") == os.environ.get(KEPT_CLUSTER)


def prestart_workers(wanted: int) -> None:
    """Sees to it that `wanted` workers wait; on no other cluster than a kept one, and never worth an error."""
    if not is_kept_cluster():
        return
    try:
        _ask(wanted)
    except Exception as error:  # the next stage starts its own
        log.warning("no worker is started in advance: %s", error)


def _ask(wanted: int) -> None:
    import psutil
    import ray
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated.node_manager_pb2 import (  # type: ignore[attr-defined]
        GetWorkerPIDsRequest,
        PrestartWorkersRequest,
    )
    from ray.core.generated.node_manager_pb2_grpc import NodeManagerServiceStub

    (node,) = (one for one in ray.nodes() if one["Alive"])
    with init_grpc_channel(f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}") as channel:
        raylet = NodeManagerServiceStub(channel)
        known = raylet.GetWorkerPIDs(GetWorkerPIDsRequest(), timeout=PATIENCE).pids
        idle = [
            p
            for p in psutil.process_iter(["cmdline"])
            if p.pid in known and (p.info["cmdline"] or [""])[0] == "ray::IDLE"
        ]
        request = PrestartWorkersRequest(keep_alive_duration_secs=IDLE_SECONDS, num_workers=max(0, wanted - len(idle)))
        request.runtime_env_info.serialized_runtime_env = "{}"
        raylet.PrestartWorkers(request, timeout=PATIENCE)
