"""A Ray cluster on this machine for the time of one command: its head process, settings and environment variables."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..environment import changed_environment
from ..network import free_port
from ..processes import BIN, available_cores, end_with_parent
from . import prestart
from .connection import DRIVER_SETTINGS, LOOPBACK, RAY_SETTINGS, disconnect
from .private_folder import VARIABLE, private_folder, write_head
from .tokens import create_token

HEAD_SETTINGS = {  # of a cluster that lives as long as one command
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # no other node is left to drain
    # Start one worker per CPU for the first driver, but not on a large machine, where that would be too many.
    "RAY_prestart_worker_first_driver": "1" if available_cores() <= prestart.MAX_IDLE_WORKERS else "0",
    # Ray would end these workers as soon as a placement group takes their CPUs and start them again (6 s each).
    "RAY_idle_worker_killing_time_threshold_ms": str(1000 * prestart.IDLE_SECONDS),
}


@contextmanager
def local_cluster(cpus: int | None = None, loopback: bool = True, jobs: int | None = None) -> Iterator[str]:
    """Run a Ray head while the block runs and yield its address; with RAY_ADDRESS set, yield that and start nothing.

    Starting a head takes 10 s, so one serves all stages of a command. In the block RAY_ADDRESS names it, and the other
    variables that Ray needs give access to it: it has a new token, in a folder that only this user can open.
    cpus: as many as this process may use by default.
    loopback: nothing outside this machine reaches the cluster; False lets other nodes join.
    jobs: the port, on loopback, of Ray's dashboard and Jobs API; None starts neither.
    """
    if "RAY_ADDRESS" in os.environ:
        yield os.environ["RAY_ADDRESS"]
        return
    port = free_port()
    address = f"127.0.0.1:{port}"
    head_settings: dict[str, str] = {}
    driver_settings = {"RAY_ADDRESS": address, **DRIVER_SETTINGS}
    if loopback:
        head_settings = LOOPBACK | prestart.RAYLET_SETTINGS
        driver_settings |= LOOPBACK | {prestart.KEPT_CLUSTER: address}
    with private_folder() as folder, changed_environment(create_token(folder)):
        head = _start_head(port, folder, cpus, jobs, head_settings)
        try:
            write_head(folder, head.pid, address)
            with changed_environment(driver_settings | {VARIABLE: str(folder)}):
                yield address
        finally:
            disconnect()  # this process would end with its cluster
            _stop_head(head)


def _start_head(
    port: int, folder: Path, cpus: int | None, jobs: int | None, settings: dict[str, str]
) -> subprocess.Popen:
    """Start Ray's head, which starts its other processes itself, and return its process.

    Even without a dashboard Ray would start a process for it and wait 2 s. It does not if the dashboard's port is in
    use, so the head inherits a socket that occupies this port.
    """
    command = [str(BIN / "ray"), "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}"]
    command += ["--no-monitor", "--include-log-monitor=false"]  # what workers print stays in their logs
    command += ["--disable-usage-stats", f"--temp-dir={folder / 'ray'}", "--dashboard-host=127.0.0.1"]
    command.append(f"--num-cpus={cpus or available_cores()}")
    with socket.create_server(("127.0.0.1", 0)) as occupied, (folder / "head.log").open("w") as log:
        if jobs:
            # The agent that starts jobs has a port of its own, by default the same for every cluster on a machine.
            command += [f"--dashboard-port={jobs}", f"--dashboard-agent-listen-port={free_port()}"]
        else:
            command += ["--include-dashboard=false", f"--dashboard-port={occupied.getsockname()[1]}"]
        return subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            env=os.environ | RAY_SETTINGS | HEAD_SETTINGS | settings,
            start_new_session=True,
            preexec_fn=end_with_parent,
            pass_fds=[occupied.fileno()],
        )


def _stop_head(head: subprocess.Popen, patience: float = 10.0) -> None:
    """Send the head SIGTERM, on which Ray ends its processes, and kill the rest of its process group afterwards.

    patience: seconds that Ray gets.
    """
    head.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + patience
    while head.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    with suppress(ProcessLookupError):
        os.killpg(head.pid, signal.SIGKILL)
    head.wait()
