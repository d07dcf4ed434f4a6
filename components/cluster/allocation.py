"""Wait until all machines of a batch job have joined its Ray cluster; infra/slurm/trainyard.sbatch calls it."""

from __future__ import annotations

import sys
import time

from ..exit_code import TRY_LATER
from .connection import connect
from .plan import count_machines

PATIENCE = 300.0  # seconds: a busy file system takes minutes to start Python on many nodes
POLL_SECONDS = 1.0


def await_machines(count: int, patience: float = PATIENCE) -> int:
    """Return exit code 0 as soon as the cluster that RAY_ADDRESS names has `count` machines.

    Return TRY_LATER if some have not joined after `patience` seconds.
    """
    connect()
    deadline = time.monotonic() + patience
    while (present := count_machines()) < count:
        if time.monotonic() > deadline:
            print(f"trainyard: {present} of {count} machines have joined the Ray cluster", file=sys.stderr)
            return TRY_LATER
        time.sleep(POLL_SECONDS)
    return 0
