"""Let only one process at a time run a stage in this directory."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.errors import TryLater


@contextmanager
def hold_lock(name: str, wait: bool = True) -> Iterator[None]:
    """Hold the lock of the stage `name`; wait for a stage that outlived its killed `dvc` rather than race it.

    Raise TryLater if another process holds the lock and `wait` is false.
    """
    path = Path(".trainyard") / "locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = path.read_text().strip() or "another"
            if not wait:
                raise TryLater(f"{name}: process {owner} already runs it; let it end (or --wait for it)") from None
            print(f"{name}: process {owner} still runs this stage; waiting for its end (or: kill {owner})", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
