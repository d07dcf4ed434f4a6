"""End the driver with one line and exit code 75 when its cluster is lost; Ray would end it with exit code 1."""

from __future__ import annotations

import os
import sys
import threading
import time

from .. import network
from ..exit_code import TRY_LATER, write_exit_code

POLL_SECONDS = 1.0
RECONNECT = "RAY_gcs_rpc_server_reconnect_timeout_s"  # Ray's setting: after so long it ends the driver itself
RECONNECT_SECONDS = 60.0  # Ray's default
MARGIN = 5.0  # seconds by which we come first
RAYLET_PATIENCE = 3.0  # seconds: nothing restarts the raylet of a node


def head_patience() -> float:
    """Return the seconds for which a head may be unreachable: another one may take its place."""
    return max(RAYLET_PATIENCE, float(os.environ.get(RECONNECT, RECONNECT_SECONDS)) - MARGIN)


def watch_cluster(patience: dict[str, float], ended: threading.Event) -> None:
    """End this process as soon as an address accepted no connection for longer than its patience.

    patience: {host:port: seconds}, of the cluster's head and of the raylet on this machine.
    """
    last_answer = dict.fromkeys(patience, time.monotonic())
    while not ended.wait(POLL_SECONDS):
        for address, seconds in patience.items():
            if network.accepts_connections(address):
                last_answer[address] = time.monotonic()
            elif time.monotonic() - last_answer[address] > seconds and not ended.is_set():
                end_driver(next(iter(patience)))


def end_driver(address: str) -> None:
    """Print that the cluster is lost, note the exit code for a command above dvc, and end this process at once.

    The main thread may be inside Ray's C++ code, which nothing interrupts.
    """
    line = f"not now: the Ray cluster at {address} was lost, but nothing else: repeat the command to continue"
    print(f"trainyard: {line}", file=sys.stderr, flush=True)
    write_exit_code(TRY_LATER)
    os._exit(TRY_LATER)
