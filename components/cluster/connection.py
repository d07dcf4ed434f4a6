"""Connect the driver to a Ray cluster: its address, its token, and Ray's settings."""

from __future__ import annotations

import logging
import os
import secrets
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from .. import network
from ..errors import Refusal, TryLater, first_line
from .plan import requested_workers

# Ray reads it at import: on Linux, too, all its ports are on 127.0.0.1.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
# Ray's own file with the address of the cluster that was started on this machine.
CURRENT_CLUSTER = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster"
START_TIMEOUT = 60.0  # seconds to wait for a cluster that is just being started
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


def connect() -> None:
    """Join the cluster of RAY_ADDRESS or one that runs on this machine; otherwise start one for this process."""
    for name, value in RAY_SETTINGS.items():
        os.environ.setdefault(name, value)
    requested_workers()  # refuses an invalid request before anything is started
    authenticate()
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        return
    setting = os.environ.get("RAY_ADDRESS")
    address = cluster_address()
    patience = 0.0 if setting == "auto" else START_TIMEOUT
    if setting and not address.startswith("ray://") and not network.accepts_connections(address, patience):
        raise Refusal(f"RAY_ADDRESS={setting}: no Ray cluster answers there; start it (ray start --head) or unset it")
    if _is_on_loopback(address) if address else not CURRENT_CLUSTER.is_file():
        os.environ.update(LOOPBACK)
    import ray

    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "configure_logging": False}
    try:
        ray.init(address=address or "auto", **options)
    except ConnectionError:
        try:
            ray.init(include_dashboard=False, _node_ip_address="127.0.0.1", **options)
        except Exception as error:  # Ray gives up after 30 s and has no exception type for this
            raise TryLater(
                f"Ray did not start on this machine ({first_line(error)}); try again when it is less busy"
            ) from None
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.train").setLevel(logging.CRITICAL)  # run_on_workers raises what it would log


def cluster_address() -> str:
    """Return RAY_ADDRESS, with `auto` resolved to the cluster that `ray start` noted on this machine, or ""."""
    setting = os.environ.get("RAY_ADDRESS", "")
    if setting != "auto":
        return setting
    return CURRENT_CLUSTER.read_text().strip() if CURRENT_CLUSTER.is_file() else ""


def disconnect() -> None:
    """Leave the cluster. To be called before it ends, because Ray ends a driver whose cluster is gone."""
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()


def _is_on_loopback(address: str) -> bool:
    """Return whether a running cluster can be reached on loopback only; Ray itself would try the external address."""
    host, _, port = address.rpartition(":")
    if host not in ("127.0.0.1", "localhost"):
        return False
    return not network.accepts_connections(f"{network.external_address()}:{port}")


def authenticate() -> None:
    """Turn on Ray's token authentication, and write a token (mode 0600) if this user has none yet.

    Only who can read the token may use a cluster. Left to itself, Ray turns tokens on in some of its processes only, if
    the file exists. RAY_AUTH_MODE, RAY_AUTH_TOKEN and RAY_AUTH_TOKEN_PATH are respected. To be called before Ray is
    imported.
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
