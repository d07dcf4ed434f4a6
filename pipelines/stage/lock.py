"""Let only one process at a time write a run's folder, a stage's outputs or the decisions about the champion."""

from __future__ import annotations

import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from components.errors import TryLater
from components.workspace import WORK, work_folder


@contextmanager
def hold_lock(name: str, wait: bool = True, folder: Path | None = None) -> Iterator[None]:
    """Hold the lock `name` below `folder` (default: the work folder, which all copies of the repository share).

    The kernel releases it when the process ends, however that happens. Raise TryLater if another process holds the
    lock and `wait` is false.
    """
    path = (folder or work_folder()) / "locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = path.read_text().strip() or "another process"
            if not wait:
                raise TryLater(f"{name}: {owner} already runs it; repeat the command when it has ended") from None
            print(f"{name}: {owner} is at work on it; waiting until it ends, then going on from there", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        yield


@contextmanager
def hold_run(outputs: str, *folders: Path) -> Iterator[None]:
    """Hold the locks of a stage: of its outputs in this directory, and of the run folders that it writes.

    outputs: a name for the stage's outputs. folders: the pipeline's run before that of the stage. All stages take their
    locks in this order, so no two can wait for each other.
    """
    with ExitStack() as stack:
        stack.enter_context(hold_lock(outputs, folder=Path(WORK)))
        for folder in dict.fromkeys(folders):
            stack.enter_context(hold_lock(folder.name))
        yield
