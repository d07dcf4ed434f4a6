"""Wait until all machines of a batch job have joined its Ray cluster; infra/slurm/trainyard.sbatch calls it."""

from __future__ import annotations

import os
import time

from .. import network
from ..errors import TryLater
from .connection import connect
from .plan import count_machines

PATIENCE = 300.0  # seconds: a busy file system takes minutes to start Python on many nodes
POLL_SECONDS = 1.0


def await_machines(count: int, patience: float = PATIENCE) -> None:
    """Return as soon as the cluster that RAY_ADDRESS names has `count` machines.

    Raise TryLater if it does not answer, or some have not joined, after `patience` seconds.
    """
    deadline = time.monotonic() + patience
    address = os.environ["RAY_ADDRESS"]
    if not network.accepts_connections(address, patience):
        raise TryLater(f"the head of the Ray cluster at {address} has not started in {patience:.0f} s")
    connect()
    while (present := count_machines()) < count:
        if time.monotonic() > deadline:
            raise TryLater(f"{present} of {count} machines have joined the Ray cluster in {patience:.0f} s")
        time.sleep(POLL_SECONDS)
