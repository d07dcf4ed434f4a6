"""Turn SIGINT and SIGTERM into a request to save and stop."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.runs.journal import STOP

STOP_TIMEOUT = 20  # seconds that the workers have to save and stop


@contextmanager
def stop_gracefully(folder: Path) -> Iterator[None]:
    """Ask the workers of the run in `folder` to save and stop when SIGINT or SIGTERM arrives.

    Raise KeyboardInterrupt at a second signal, or when the workers have not stopped within STOP_TIMEOUT.
    """
    flag = folder / STOP
    flag.unlink(missing_ok=True)
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set signal handlers
        return

    def request_stop(number: int, frame: object) -> None:
        if number == signal.SIGALRM or flag.exists():
            raise KeyboardInterrupt
        flag.touch()
        signal.alarm(STOP_TIMEOUT)
        print("stopping as soon as all is saved; interrupt again to stop at once", file=sys.stderr, flush=True)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    previous = {number: signal.signal(number, request_stop) for number in numbers}
    try:
        yield
    finally:
        signal.alarm(0)
        for number, handler in previous.items():
            signal.signal(number, handler)
        flag.unlink(missing_ok=True)
