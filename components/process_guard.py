"""A script that ends a process group as soon as the process that started it is gone, however it ended.

Standard input is a pipe from the starter. Its first line names the group; `done` after it dismisses the guard. If the
pipe closes without it, the starter is dead, and no other process would end the group.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable

PATIENCE = 10.0  # seconds between SIGTERM and SIGKILL
LAST_PATIENCE = 2.0  # seconds after SIGKILL in which the kernel removes the processes


def end_group(group: int, patience: float = PATIENCE, reap: Callable[[], object] = lambda: None) -> None:
    """Send SIGTERM to all processes of a group, and after `patience` seconds SIGKILL to those that are left.

    reap: called while they end, to collect a child of this process; otherwise the group would never be empty.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):  # PermissionError: macOS, where all are zombies
        for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, LAST_PATIENCE)):
            os.killpg(group, number)
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                time.sleep(0.05)
                reap()
                os.killpg(group, 0)


def main() -> None:
    """Wait for the end of standard input, then end the group unless the guard was dismissed."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    words = sys.stdin.read().split()
    if words and words[-1] != "done":
        end_group(int(words[0]))


if __name__ == "__main__":
    main()
