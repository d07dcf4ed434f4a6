"""Give the libraries a home and a user name where a container, a service or a batch system has none."""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import tempfile
from pathlib import Path

from .workspace import WORK, work_folder

CHECKOUT = "params.yaml"  # in a folder that may hold a folder WORK
CACHES = {"XDG_CACHE_HOME": "", "MPLCONFIGDIR": "matplotlib"}  # variable -> sub-folder of the caches


def ensure_home() -> None:
    """Set HOME, the caches and the user's name where they are missing or of no use, for this process and its children.

    MLflow, torch and others raise errors without them. A home that can be read but not written is kept, because it may
    hold an account; only the caches move. `/` counts as no home: containers with arbitrary user ids have it.
    """
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        for name in ("USER", "LOGNAME"):
            os.environ.setdefault(name, str(os.getuid()))
    try:
        home = Path.home()
    except RuntimeError:
        home = Path("/")
    if home == Path("/") or not home.is_dir():
        os.environ["HOME"] = str(_own_folder("home"))
    elif not os.access(home, os.W_OK | os.X_OK):
        missing = {name: folder for name, folder in CACHES.items() if name not in os.environ}
        cache = _own_folder("cache") if missing else home
        os.environ.update({name: str(cache / folder) for name, folder in missing.items()})


def _own_folder(name: str) -> Path:
    """Return a new or old folder in the checkout's work folder; elsewhere one that ends with this process."""
    if Path(CHECKOUT).is_file() and (Path(WORK).is_dir() or os.access(".", os.W_OK)):
        folder = work_folder() / name
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return folder
        except OSError:
            pass  # the checkout belongs to somebody else
    folder = Path(tempfile.mkdtemp(prefix=f"trainyard-{name}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
