"""The folder of a cluster that we start: its sockets, its token and its logs, for this user alone."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from ..errors import Refusal
from ..files import write_json

MAX_SOCKET_PATH = 107 if sys.platform == "linux" else 103  # bytes that a kernel accepts as the path of a socket
LONGEST_SOCKET = "/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.9"  # below the folder
VARIABLE = "TRAINYARD_CLUSTER"  # environment variable that names the folder, for the processes of a command
PREFIX = "trainyard-"


@contextmanager
def private_folder() -> Iterator[Path]:
    """Yield a new folder (mode 0700) whose path is short enough for Ray's sockets, and remove it afterwards.

    It is in TMPDIR, or where that path is too long in the first folder of `_short_folders` that can be written.
    Ray makes the folders that it creates itself readable and writable for everybody, so it gets one below this.
    """
    for parent in (tempfile.gettempdir(), *_short_folders()):
        if len(os.fsencode(f"{parent}/{PREFIX}12345678{LONGEST_SOCKET}")) > MAX_SOCKET_PATH:
            continue
        try:
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        except OSError:
            continue
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return
    longest = MAX_SOCKET_PATH - len(f"/{PREFIX}12345678{LONGEST_SOCKET}")
    raise Refusal(
        f"TMPDIR={tempfile.gettempdir()}: too long for Ray's sockets, and {', '.join(_short_folders())} cannot be "
        f"written; set TMPDIR to a folder whose path has at most {longest} bytes"
    )


def _short_folders() -> tuple[str, ...]:
    return ("/tmp", "/var/tmp", f"/run/user/{os.getuid()}", "/dev/shm")


def write_head(folder: Path, pid: int, address: str) -> None:
    """Note the process and the address of the cluster's head, for the other processes of this command."""
    write_json(folder / "head.json", {"pid": pid, "address": address})


def starts_here(address: str) -> bool:
    """Return whether this command has started the cluster at `address`."""
    return _read_head().get("address") == address


def read_last_words() -> str | None:
    """Return the last line of the log of this command's head if the head has ended; otherwise, or without one, None."""
    head = _read_head()
    try:
        if not head or psutil.Process(head["pid"]).status() != psutil.STATUS_ZOMBIE:
            return None
    except psutil.NoSuchProcess:
        pass
    return read_last_line(Path(os.environ[VARIABLE]) / "head.log") or "it ended without a word"


def _read_head() -> dict[str, Any]:
    try:
        head: dict[str, Any] = json.loads((Path(os.environ[VARIABLE]) / "head.json").read_text())
    except (KeyError, OSError):
        return {}
    return head


def read_last_line(log: Path) -> str:
    """Return the last line with text, or an empty text without one."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    line = next((line for line in reversed(lines) if any(letter.isalnum() for letter in line)), "")
    return textwrap.shorten(line, 300, placeholder=" ...")
