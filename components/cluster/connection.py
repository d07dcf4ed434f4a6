"""Connect the driver to a Ray cluster: its address, its token, and Ray's settings."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import time
from contextlib import ExitStack
from functools import partial
from typing import Any

from .. import network
from ..environment import changed_environment
from ..errors import Refusal, TryLater, first_line
from ..processes import available_cores, background_thread
from . import ownership
from .plan import requested_workers
from .private_folder import private_folder, read_last_words, starts_here
from .tokens import authenticate, create_token, reload_token
from .watch import RAYLET_PATIENCE, RECONNECT, head_patience, watch_cluster

# Ray reads it at import: on Linux, too, all its ports are on 127.0.0.1.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
START_TIMEOUT = 60.0  # seconds to wait for a cluster that is just being started
DRIVER_SETTINGS = {RECONNECT: "10"}  # a killed cluster of this machine does not come back
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
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # workers use the driver's directory: paths in recipes are relative
}


_connection = ExitStack()  # what `disconnect` undoes


def connect() -> None:
    """Join the cluster that RAY_ADDRESS names; without it start one for this process, and join nothing else.

    Once connected, the process ends with exit code 75 when the cluster is lost.
    """
    for name, value in RAY_SETTINGS.items():
        os.environ.setdefault(name, value)
    requested_workers()  # refuses an invalid request before anything is started
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        return
    atexit.unregister(disconnect)
    atexit.register(disconnect)
    try:
        if setting := os.environ.get("RAY_ADDRESS"):
            _join(setting)
        else:
            _start()
    except BaseException:
        _connection.close()
        raise
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.train").setLevel(logging.CRITICAL)  # run_on_workers raises what it would log


def _join(setting: str) -> None:
    address = cluster_address()
    if not address.startswith("ray://"):
        _await_cluster(setting, address)
    authenticate()
    if _is_on_loopback(address):
        os.environ.update(LOOPBACK)
    try:
        _initialize(address=address)
    except Exception as error:  # it answers, but not as a cluster of ours does: no token, another version
        line = first_line(error)
        if starts_here(address):
            raise TryLater(f"the Ray cluster of this command did not answer ({line}); try again") from None
        raise Refusal(
            f"RAY_ADDRESS={setting}: cannot join that cluster ({line}); check its version of Ray, and that "
            "RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH holds its token"
        ) from None


def _start() -> None:
    """Start a cluster on loopback, with a token of its own, that ends with this process."""
    folder = _connection.enter_context(private_folder())
    _connection.enter_context(changed_environment(create_token(folder) | DRIVER_SETTINGS))
    os.environ.update(LOOPBACK)
    try:
        _initialize(
            address="local",
            num_cpus=available_cores(),
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=str(folder / "ray"),
        )
    except Exception as error:  # Ray gives up after 30 s and has no exception type for this
        raise TryLater(
            f"Ray did not start on this machine ({first_line(error)}); try again when it is less busy"
        ) from None


def _initialize(**options: Any) -> None:
    """Initialize Ray and watch the cluster until `disconnect`."""
    reload_token()
    import ray

    ray.init(logging_level=logging.ERROR, log_to_driver=False, configure_logging=False, **options)
    _connection.callback(ray.shutdown)
    worker: Any = ray._private.worker
    worker.print_to_stdstream = _print_message
    node = worker.global_worker.node
    if node is None:  # ray:// has a connection of its own
        return
    patience = {node.gcs_address: head_patience()}
    patience[network.join_address(node.node_ip_address, node.node_manager_port)] = RAYLET_PATIENCE
    _connection.enter_context(background_thread(partial(watch_cluster, patience)))


def _print_message(data: dict[str, Any], ignore_prefix: bool) -> None:
    """Print the first line of a message of Ray's, except that a raylet was lost: Ray would print its log, twice."""
    line = (str(data["lines"][0]).strip().splitlines() or [""])[0]
    if not line.startswith("Raylet is terminated"):
        print(f"ray: {line}", file=sys.stderr, flush=True)


def _await_cluster(setting: str, address: str) -> None:
    """Wait until the cluster accepts connections; if it is this command's, also until its head is ours."""
    is_own = starts_here(address)
    deadline = time.monotonic() + (0.0 if setting == "auto" else START_TIMEOUT)
    while not (network.accepts_connections(address) and (not is_own or ownership.is_own_cluster(address))):
        if is_own and (line := read_last_words()):
            raise TryLater(f"Ray did not start on this machine; its last line was: {line}")
        if time.monotonic() < deadline:
            time.sleep(0.2)
        elif is_own:
            raise TryLater(f"Ray did not start on this machine within {START_TIMEOUT:.0f} s; is it very busy?")
        else:
            raise Refusal(
                f"RAY_ADDRESS={setting}: no Ray cluster answers there; start it (ray start --head) or unset it"
            )


def cluster_address() -> str:
    """Return RAY_ADDRESS, with `auto` resolved to the cluster that this user's `ray start` noted here, or ""."""
    setting = os.environ.get("RAY_ADDRESS", "")
    return ownership.noted_address() if setting == "auto" else setting


def disconnect() -> None:
    """Leave the cluster. To be called before it ends, because this process would end with it."""
    _connection.close()
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()
    reload_token()


def _is_on_loopback(address: str) -> bool:
    """Return whether a running cluster can be reached on loopback only; Ray itself would try the external address."""
    host, port = network.split_address(address)
    if not network.is_loopback(host):
        return False
    return not network.accepts_connections(f"{network.external_address()}:{port}")
