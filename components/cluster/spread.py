"""Functions spread over the workers of a Ray cluster.

Ray Train places the workers, watches them and starts them again; the process group is ours (`peers.join`), so the
driver, in which Ray's controller runs (controller.py), need not import torch: 2 s less a stage than `TorchTrainer`.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import secrets
import shutil
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import network
from ..errors import PeerLost, Refusal, Stopped, TryLater, explain_os_error, first_line
from ..processes import background_thread
from ..recipes.allowed import ALLOW

LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # at import: every port of Ray's on 127.0.0.1, on Linux, too
CURRENT_CLUSTER = (
    Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster"
)  # Ray's own note of one here
START_TIMEOUT = 60.0  # seconds for a cluster that is being started beside us
LOOK = 2.0  # seconds between two looks for nodes that are about to go
RESIZE = 5.0  # seconds between two looks for nodes that are back
ROOM = 1.5e9  # bytes, of what Ray takes for free, that one more worker may need
RETRIES = 8  # of a lost worker or node; an error in our own code is not tried again
RAY_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # workers go where the driver is: paths in recipes are relative
}


@dataclass(frozen=True)
class Plan:
    """How many workers, and what each gets. Chosen when a stage runs, never a parameter of its result."""

    workers: int
    gpu: bool
    least: int | None = None  # elastic: goes on with so few where nodes are lost, and grows again when they are back

    def __str__(self) -> str:
        return f"{self.workers} {'GPU ' if self.gpu else ''}worker{'s' if self.workers > 1 else ''}"


def connect() -> None:
    """Joins the cluster of RAY_ADDRESS or one running on this machine; else starts one that ends with this process."""
    for name, value in RAY_SETTINGS.items():
        os.environ.setdefault(name, value)
    requested_workers()
    authenticate()
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        return
    given, address = os.environ.get("RAY_ADDRESS"), cluster_address()
    patience = 0.0 if given == "auto" else START_TIMEOUT
    if given and not address.startswith("ray://") and not network.accepts_connections(address, patience):
        raise Refusal(f"RAY_ADDRESS={given}: no Ray cluster answers there; start it (ray start --head) or unset it")
    if _on_loopback(address) if address else not CURRENT_CLUSTER.is_file():
        os.environ.update(LOOPBACK)
    import ray

    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "configure_logging": False}
    try:
        ray.init(address=address or "auto", **options)
    except ConnectionError:
        try:
            ray.init(include_dashboard=False, _node_ip_address="127.0.0.1", **options)
        except Exception as error:  # it gives itself 30 s, and has no type of its own for this
            told = f"Ray did not start on this machine ({first_line(error)}); try again when it is less busy"
            raise TryLater(told) from None
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.train").setLevel(logging.CRITICAL)  # what it would log as an error, `spread` raises


def cluster_address() -> str:
    """RAY_ADDRESS; `auto` stands for the cluster that `ray start` noted on this machine; "" where there is none."""
    given = os.environ.get("RAY_ADDRESS", "")
    if given != "auto":
        return given
    return CURRENT_CLUSTER.read_text().strip() if CURRENT_CLUSTER.is_file() else ""


def disconnect() -> None:
    """Leaves the cluster, before it ends: Ray ends a driver whose cluster is gone."""
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()


def _on_loopback(address: str) -> bool:
    """Whether the cluster, which answers, does so on loopback alone: Ray would look at the machine's outer address."""
    host, _, port = address.rpartition(":")
    return host in ("127.0.0.1", "localhost") and not network.accepts_connections(
        f"{network.external_address()}:{port}"
    )


def authenticate() -> None:
    """Only who can read the token may use a cluster: makes one (mode 0600) where there is none, and turns tokens on.

    Ray would turn them on by whether the file exists, in some of its processes. RAY_AUTH_MODE, RAY_AUTH_TOKEN and
    RAY_AUTH_TOKEN_PATH are honoured. To be called before Ray is imported.
    """
    if "RAY_AUTH_MODE" in os.environ:
        return
    if not os.environ.get("RAY_AUTH_TOKEN"):
        file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.is_file():
            draft = file.with_name(f".{file.name}.{os.getpid()}")
            draft.touch(mode=0o600)
            draft.write_text(secrets.token_hex(32))
            with suppress(FileExistsError):  # another process was quicker
                os.link(draft, file)
            draft.unlink()
        if file.stat().st_mode & 0o077 and file.stat().st_uid == os.getuid():
            file.chmod(0o600)
    os.environ["RAY_AUTH_MODE"] = "token"


def requested_workers() -> tuple[int | None, int] | None:
    """TRAINYARD_WORKERS as (least, most): `2` is (None, 2), `1:4` is (1, 4); None where it is not set."""
    given = os.environ.get("TRAINYARD_WORKERS")
    if given is None:
        return None
    found = re.fullmatch(r"(?:(\d+):)?(\d+)", given)
    least, most = found.groups() if found else (None, "0")
    if not 1 <= int(least or most) <= int(most):
        raise Refusal(f"TRAINYARD_WORKERS={given}: must be a whole number of at least 1, or a range such as 1:4")
    return int(least) if least else None, int(most)


def plan_workers(parts: int | None = None) -> Plan:
    """TRAINYARD_WORKERS (`2`, or `1:4` for as many as there are), or all GPUs; or else a worker for each processor.

    No more than `parts`, into which the work can be cut, unless they are asked for. Of processors no more than memory
    has room for, and one a machine without `parts`.
    """
    import ray

    has = ray.cluster_resources()
    gpus = int(has.get("GPU", 0))
    if (given := requested_workers()) is not None:
        least, most = given
        return Plan(most, gpu=gpus >= (least or most), least=least)
    if gpus:
        return Plan(min(gpus, parts or gpus), gpu=True)
    if parts is None:
        return Plan(len([n for n in ray.nodes() if n["Alive"]]), gpu=False)
    room = int(has.get("memory", ROOM * parts) / ROOM)
    return Plan(max(1, min(int(has.get("CPU", 1)), parts, room)), gpu=False)


def threads_per_worker(chosen: Plan, parts: int | None = None) -> int | None:
    """Of each worker: TRAINYARD_THREADS, or what a result may hang on; None: its share of its machine's processors.

    Sums depend on them: nothing that comes and goes while the recipe stays (nodes, free memory) may change them.
    """
    if (given := os.environ.get("TRAINYARD_THREADS")) is not None:
        if not re.fullmatch(r"[1-9]\d*", given):
            raise Refusal(f"TRAINYARD_THREADS={given}: must be a whole number of at least 1")
        return int(given)
    cores = os.cpu_count() or 1
    if chosen.least is not None:
        return max(1, cores // chosen.workers)
    if requested_workers() is None and not chosen.gpu and parts is not None:
        return cores // max(1, min(cores, parts))
    return None


def run_on_workers(
    function: Callable[..., Any] | str,
    *arguments: Any,
    name: str,
    folder: Path,
    notice: Path | None = None,
    parts: int | None = None,
) -> Any:
    """Runs `function(peers, *arguments)` on every worker, in the driver's directory; returns what rank 0 returned.

    A lost worker or node is replaced and the function called again on all: it must go on from its own checkpoints.
    function: defined in a module, or its dotted path where the driver shall not import what it needs (torch: 2 s).
    folder: where Ray keeps its notes on the run (shared between machines); notice: a file that is made when a node is
    announced to go. parts: into how many the work can be cut (`plan`).
    """
    connect()
    from ray.train import FailureConfig, RunConfig
    from ray.train.v2.api.config import ScalingConfig  # what ray.train's is, but for type checkers

    from . import controller

    chosen = plan_workers(parts)
    each = threads_per_worker(chosen, parts)
    _refuse_what_never_fits(chosen)
    run = f"{name}-{uuid.uuid4().hex[:8]}"
    given = {"function": function, "arguments": arguments, "place": driver_settings()}
    callbacks: list[Any] = [controller.RetryOnlyLostWorkers()]
    try:
        with watch_for_preemption(notice):
            result: Any = controller.Trainer(
                _worker,
                train_loop_config=given | {"threads": each},
                scaling_config=ScalingConfig(
                    num_workers=chosen.workers if chosen.least is None else (chosen.least, chosen.workers),
                    use_gpu=chosen.gpu,
                    placement_strategy="SPREAD",
                    elastic_resize_monitor_interval_s=RESIZE,
                ),
                run_config=RunConfig(
                    name=run,
                    storage_path=str(folder.resolve()),
                    failure_config=FailureConfig(max_failures=RETRIES),
                    callbacks=callbacks,
                ),
                backend_config=controller.Rendezvous(),
            ).fit()
    except Exception as error:
        raise root_cause(error) from None
    shutil.rmtree(folder / run, ignore_errors=True)
    return result.return_value


def watch_for_preemption(notice: Path | None) -> AbstractContextManager[None]:
    """Makes the file `notice` whenever one more node is announced to be taken away (a spot instance, a drained node).

    Ray Train's own watcher is a process and asks every worker at every step; this asks the head, from the driver.
    """
    from ray._private.state import state

    known: set[str] = set()

    def watch(ended: threading.Event) -> None:
        while not ended.wait(LOOK):
            with suppress(Exception):  # the head may be away for a moment
                leaving = set(state.get_draining_nodes())
                if notice is not None and leaving - known:
                    notice.touch()
                known.update(leaving)

    return background_thread(watch)


def _worker(config: dict[str, Any]) -> Any:
    """One worker: directory, threads, allocator, process group, then the function."""
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # threads that spin for long crawl beside any other work
    import ray
    import torch
    from ray.train import get_context

    from ..training import peers
    from . import allocator

    apply_driver_settings(*config["place"])
    context = get_context()
    rank, size = context.get_world_rank(), context.get_world_size()
    share = max(1, (os.cpu_count() or 1) // context.get_local_world_size())
    torch.set_num_threads(config["threads"] or share)
    allocator.keep_freed_memory()
    gpu = torch.cuda.is_available() and bool(ray.get_gpu_ids())
    device = torch.device("cuda", context.get_local_rank() % torch.cuda.device_count()) if gpu else torch.device("cpu")
    address, _, port = network.rendezvous_address().rpartition(":")
    if interface := network.interface_of(ray.util.get_node_ip_address()):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)  # it would go by the host's name, which may lead nowhere
    try:
        return resolve_function(config["function"])(
            peers.join_group(rank, size, address, int(port), device), *config["arguments"]
        )
    except (Refusal, Stopped):
        raise
    except Exception as error:
        if machine := explain_os_error(error):
            raise machine from None
        seen = PeerLost(str(error)) if size > 1 and peers.is_peer_loss(error) else error
        seen.add_note(f"on worker {rank} of {size}:\n{traceback.format_exc()}")
        raise seen from None
    finally:
        peers.leave_group()


def resolve_function(function: Callable[..., Any] | str) -> Callable[..., Any]:
    """The function itself, or the one at a dotted path."""
    if not isinstance(function, str):
        return function
    module, _, name = function.rpartition(".")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def driver_settings() -> tuple[str, str]:
    """Of the driver, for `enter`: its directory, and what code it allows (`allowed`)."""
    return str(Path.cwd()), os.environ.get(ALLOW, "")


def apply_driver_settings(folder: str, allowed: str) -> None:
    """On a worker: goes to the driver's directory, which all machines must share, and allows what it allows."""
    os.environ[ALLOW] = allowed
    try:
        os.chdir(folder)
    except OSError:
        raise Refusal(f"{folder}: not on every machine of the cluster; run from a folder that they share") from None


def _refuse_what_never_fits(chosen: Plan, patience: float = 15.0) -> None:
    """Ray waits for ever for CPUs that don't exist; we say so."""
    import ray

    until = time.monotonic() + patience
    while (has := ray.cluster_resources().get("CPU", 0)) < (chosen.least or chosen.workers):
        if time.monotonic() > until:
            raise Refusal(
                f"{chosen} need as many CPUs, but the Ray cluster has {has:g}: lower TRAINYARD_WORKERS or add nodes"
            )
        time.sleep(0.5)


def root_cause(error: BaseException) -> BaseException:
    """What really happened, below Ray's wrappers: a Refusal when there is one, else what a worker wrote a note on."""
    found: list[BaseException] = []
    queue: list[Any] = [error]
    while queue:
        current = queue.pop(0)
        if not isinstance(current, BaseException) or current in found:
            continue
        found.append(current)
        queue += [getattr(current, name, None) for name in ("controller_failure", "cause", "_base_exc", "__cause__")]
        queue += list(getattr(current, "worker_failures", {}).values())
    refusals = [one for one in found if isinstance(one, Refusal | Stopped)]
    machine = [refusal for one in found if (refusal := explain_os_error(one))]
    noted = [one for one in found if getattr(one, "__notes__", None)]
    return (refusals or machine or noted or [error])[-1]  # the innermost
