"""Read DVC's locks: which other processes work in this repository, and whether one of them makes dvc fail."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from pathlib import Path

RWLOCK = Path(".dvc/tmp/rwlock")  # paths that running stages read and write, and the processes of their dvc
LOCK = Path(".dvc/tmp/lock")  # held by a dvc except while it runs a stage's command


def lock_holders() -> set[int]:
    """Return the process ids in DVC's file of running stages; raise ValueError, KeyError or TypeError if damaged."""
    locks = json.loads(RWLOCK.read_text()) if RWLOCK.is_file() else {}
    writers = list(locks.get("write", {}).values())
    readers = [entry for entries in locks.get("read", {}).values() for entry in entries]
    return {int(entry["pid"]) for entry in [*writers, *readers] if entry}


def live_holders() -> set[int]:
    """Return those of the processes that are alive; none if the file is damaged, as while another dvc writes it."""
    try:
        return {pid for pid in lock_holders() if is_alive(pid)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()


def is_locked() -> bool:
    """Return whether a dvc holds the lock of the whole repository at this moment."""
    with suppress(FileNotFoundError), LOCK.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def is_alive(pid: int) -> bool:
    """Return whether there is a process with this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it belongs to another user
    return True
