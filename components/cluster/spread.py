"""Run a function on all workers of a Ray cluster.

Ray Train places the workers, watches them and restarts them. The process group is our own (`peers.join_group`), and
Ray's controller runs in the driver (controller.py). So the driver need not import torch: 2 s less per stage than with
`TorchTrainer`.
"""

from __future__ import annotations

import importlib
import os
import shutil
import threading
import traceback
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from .. import network
from ..errors import PeerLost, Refusal, Stopped, explain_os_error
from ..processes import available_cores, background_thread
from ..training.handover import NotAtHome, describe_handovers, find_apart
from .connection import connect
from .driver_folder import DriverFolder, enter_folder, marked_folder, move_paths
from .plan import NODE_LABEL, Plan, check_capacity, check_own_node, plan_workers, threads_per_worker

DRAIN_CHECK_SECONDS = 2.0  # between two checks for nodes that are about to be taken away
RESIZE_SECONDS = 5.0  # between two checks for nodes that are back
MAX_LOST_WORKERS = 8  # per run; an error of our own code is not tried again


def run_on_workers(
    function: Callable[..., Any] | str,
    *arguments: Any,
    name: str,
    folder: Path,
    notice: Path | None = None,
    parts: int | None = None,
    report: Callable[[str], None] | None = None,
) -> Any:
    """Run `function(peers, *arguments)` on every worker, in the driver's directory, and return rank 0's result.

    When a worker or node is lost, it is replaced and the function is called again on all workers, so the function must
    resume from its own checkpoints. An error of the function is raised here (`root_cause`).

    On a machine that does not share the driver's directory, another one stands for it (driver_folder.py), and paths in
    the arguments are changed to it. Rank 0 then runs on the driver's machine.

    function: defined in a module, or its dotted path if the driver should not import what it needs (torch: 2 s).
    folder: for Ray's records of the run, on the disk of the driver's results.
    notice: a file to create when the removal of a node is announced.
    parts: the number of parts into which the work can be cut (`plan_workers`).
    report: called with a sentence about the files that were handed to other machines, if any.
    """
    connect()
    plan = plan_workers(parts)
    threads = threads_per_worker(plan, parts)
    check_capacity(plan)
    run = f"{name}-{uuid.uuid4().hex[:8]}"
    with marked_folder(folder) as driver, watch_for_preemption(notice):
        config = {"function": function, "arguments": arguments, "driver": driver, "threads": threads}
        try:
            result = _train(plan, config, run, folder)
        except NotAtHome:
            result = _train(plan, config, f"{run}-here", folder, check_own_node(plan))
        sentence = describe_handovers(Path(driver.mark))
    if report is not None and sentence is not None:
        report(sentence)
    for records in (folder / run, folder / f"{run}-here"):
        shutil.rmtree(records, ignore_errors=True)
    return result


def _train(plan: Plan, config: dict[str, Any], run: str, folder: Path, node: str | None = None) -> Any:
    """Run `_run_worker` on the planned workers and return rank 0's result.

    node: the one on which the first worker must be; None: the cluster chooses.
    """
    from ray.train import FailureConfig, RunConfig
    from ray.train.v2.api.config import ScalingConfig  # the class of ray.train, visible to type checkers

    from . import controller

    callbacks: list[Any] = [controller.RetryOnlyLostWorkers()]
    selectors: list[dict[str, str]] = [{} for _ in range(plan.workers)]
    if node is not None:
        selectors[0] = {NODE_LABEL: node}
    try:
        result: Any = controller.Trainer(
            _run_worker,
            train_loop_config=config,
            scaling_config=ScalingConfig(
                num_workers=plan.workers if plan.min_workers is None else (plan.min_workers, plan.workers),
                use_gpu=plan.gpu,
                placement_strategy="SPREAD",
                elastic_resize_monitor_interval_s=RESIZE_SECONDS,
                label_selector=selectors if node is not None else None,
            ),
            run_config=RunConfig(
                name=run,
                storage_path=str(folder.resolve()),
                failure_config=FailureConfig(max_failures=MAX_LOST_WORKERS),
                callbacks=callbacks,
            ),
            backend_config=controller.Rendezvous(),
        ).fit()
    except Exception as error:
        raise root_cause(error) from None
    return result.return_value


def watch_for_preemption(notice: Path | None) -> AbstractContextManager[None]:
    """Create the file `notice` whenever the removal of a node is announced (a spot instance, a drained node).

    Ray Train's own watcher is a process that asks every worker at every step. This background thread of the driver asks
    the head node.
    """
    from ray._private.state import state

    announced: set[str] = set()

    def watch_nodes(ended: threading.Event) -> None:
        while not ended.wait(DRAIN_CHECK_SECONDS):
            with suppress(Exception):  # the head may be unreachable for a moment
                draining = set(state.get_draining_nodes())
                if notice is not None and draining - announced:
                    notice.touch()
                announced.update(draining)

    return background_thread(watch_nodes)


def _run_worker(config: dict[str, Any]) -> Any:
    """Set up one worker (directory, threads, allocator, process group), then call the function on it."""
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # longer spinning slows down all other processes
    import ray
    import torch
    from ray.train import get_context

    from ..training import peers, rendezvous
    from . import allocator

    driver: DriverFolder = config["driver"]
    local = enter_folder(driver)
    arguments = config["arguments"]
    if local is not None:
        arguments = move_paths(arguments, driver.base, str(local))
    context = get_context()
    rank, size = context.get_world_rank(), context.get_world_size()
    cpu_share = max(1, available_cores() // context.get_local_world_size())
    torch.set_num_threads(config["threads"] or cpu_share)
    allocator.keep_freed_memory()
    device = torch.device("cpu")
    if torch.cuda.is_available() and ray.get_gpu_ids():
        device = torch.device("cuda", context.get_local_rank() % torch.cuda.device_count())
    place = rendezvous.current_place()
    if interface := network.interface_of("127.0.0.1" if place.is_local else ray.util.get_node_ip_address()):
        # Gloo would resolve the host's name, which may not lead anywhere.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    try:
        group = peers.join_group(rank, size, place, device)
        group.apart = find_apart(group, local, ray.get_runtime_context().get_node_id(), Path(driver.mark))
        return resolve_function(config["function"])(group, *arguments)
    except (Refusal, Stopped):
        raise
    except Exception as error:
        if refusal := explain_os_error(error):
            raise refusal from None
        cause = PeerLost(str(error)) if size > 1 and peers.is_peer_loss(error) else error
        cause.add_note(f"on worker {rank} of {size}:\n{traceback.format_exc()}")
        raise cause from None
    finally:
        peers.leave_group()
        rendezvous.leave_place(place)


def resolve_function(function: Callable[..., Any] | str) -> Callable[..., Any]:
    """Return the function itself, or import it from its dotted path."""
    if not isinstance(function, str):
        return function
    module, _, name = function.rpartition(".")
    resolved: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return resolved


def root_cause(error: BaseException) -> BaseException:
    """Return the innermost error below Ray's wrappers that explains a failed run, or `error` itself.

    A Refusal or a Stopped comes first, then an operating system's error as a Refusal, then an error with a worker's
    note.
    """
    errors: list[BaseException] = []
    queue: list[Any] = [error]
    while queue:
        current = queue.pop(0)
        if not isinstance(current, BaseException) or current in errors:
            continue
        errors.append(current)
        queue += [getattr(current, name, None) for name in ("controller_failure", "cause", "_base_exc", "__cause__")]
        queue += list(getattr(current, "worker_failures", {}).values())
    refusals = [each for each in errors if isinstance(each, Refusal | Stopped)]
    os_refusals = [refusal for each in errors if (refusal := explain_os_error(each))]
    with_notes = [each for each in errors if getattr(each, "__notes__", None)]
    return (refusals or os_refusals or with_notes or [error])[-1]
