"""Background threads of this process, and child processes that end with it."""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

BIN = Path(sys.executable).parent  # the programs of this Python environment
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


@contextmanager
def background_thread(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run `work(ended)` in a background thread while the block runs; then set `ended` and wait for the thread."""
    ended = threading.Event()
    thread = threading.Thread(target=work, args=(ended,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def end_with_parent() -> None:
    """Ask the kernel to send this child SIGTERM when its parent ends, so that a killed parent leaves no child behind.

    To be called in the child (`preexec_fn`). Does nothing on other systems than Linux.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
