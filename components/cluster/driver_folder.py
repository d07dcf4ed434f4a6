"""The driver's folder as workers find it: the same one, or on a machine without it a folder that stands for it.

A machine shares the folder if it sees a file that the driver has just created there. Otherwise its workers use

    ~/.cache/trainyard/apart/HOST/DIGEST    (XDG_CACHE_HOME in place of ~/.cache)

as long as they need: it is safe to delete. DIGEST is that of the driver's machine and folder.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import Refusal
from ..home import ensure_home
from ..recipes import allowed
from ..workspace import repository_root


@dataclass(frozen=True)
class DriverFolder:
    """The directory of the driver, and the code that it allows (`allowed`)."""

    path: str
    base: str  # the repository, of which `path` may be a temporary copy inside it
    host: str
    packages: str
    mark: str  # a file that exists while the driver waits for workers


@contextmanager
def marked_folder(folder: Path) -> Iterator[DriverFolder]:
    """Create a file in `folder`, by which workers recognise the driver's machine, while the block runs."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder.resolve() / f"mark-{uuid.uuid4().hex}"
    mark.touch()
    packages = ",".join(sorted(allowed.PACKAGES))
    try:
        yield DriverFolder(str(Path.cwd()), str(repository_root()), os.uname().nodename, packages, str(mark))
    finally:
        mark.unlink(missing_ok=True)


def enter_folder(driver: DriverFolder) -> Path | None:
    """Change to the driver's directory and allow the same code; return None.

    On a machine that does not share the directory, change to that in the folder which stands for the driver's
    repository, and return this folder.
    """
    allowed.replace_packages(driver.packages)
    if is_shared(driver):
        try:
            os.chdir(driver.path)
        except OSError:
            raise Refusal(
                f"{driver.path}: not on every machine of the cluster; run from a folder that they share"
            ) from None
        return None
    local = local_base(driver)
    directory = local / Path(driver.path).relative_to(driver.base)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chdir(directory)
    return local


def is_shared(driver: DriverFolder) -> bool:
    """Return whether this machine shares the driver's folder."""
    return Path(driver.mark).is_file()


def local_base(driver: DriverFolder) -> Path:
    """Return the folder that stands for the driver's repository on this machine."""
    ensure_home()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(f"{driver.host}:{driver.base}".encode()).hexdigest()
    return cache.resolve() / "trainyard" / "apart" / os.uname().nodename / digest[:16]


def move_paths(value: Any, old: str, new: str) -> Any:
    """Return arguments of a function in which every path in the folder `old` is in `new`, also in data classes."""
    if isinstance(value, str):
        return new + value[len(old) :] if value == old or value.startswith(f"{old}{os.sep}") else value
    if isinstance(value, Path):
        return Path(move_paths(str(value), old, new))
    if isinstance(value, dict):
        return {move_paths(key, old, new): move_paths(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [move_paths(item, old, new) for item in value]
    if type(value) is tuple:
        return tuple(move_paths(item, old, new) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        values = {each.name: getattr(value, each.name) for each in fields(value) if each.init}
        return replace(value, **move_paths(values, old, new))
    return value
