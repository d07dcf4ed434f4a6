"""Run a function in a forked child with limits, so that a crash, a hang or a lack of memory fails one test alone."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

MEMORY = 512 << 20  # bytes
PATIENCE = 6


def run_limited(function: Callable[[], Any], seconds: int, memory: int = MEMORY) -> Any:
    """Return the value of `function` from a child with `memory` more bytes of address space.

    It may compute for `seconds`, and take PATIENCE times as long: the machine may be busy. Fails with the child's
    traceback, or with the name of the signal that ended it: SIGSEGV, or SIGXCPU and SIGALRM for a hang.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        _run_child(function, seconds, memory, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        raise AssertionError(f"the child was ended by {signal.Signals(os.WTERMSIG(status)).name}")
    value, text = pickle.loads(answer)
    assert not text, text
    return value


def _run_child(function: Callable[[], Any], seconds: int, memory: int, writer: int) -> None:
    """Write (value, traceback) of `function` to the pipe and end the process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries print what they think of a damaged file
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE * seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    value, text = None, ""
    try:
        value = function()
    except BaseException:
        text = traceback.format_exc()
    answer = pickle.dumps((value, text))
    while answer:
        answer = answer[os.write(writer, answer) :]
    sys.stdout.flush()
    os._exit(0)
