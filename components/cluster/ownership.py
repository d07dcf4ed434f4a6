"""Tell the clusters of this user from those of strangers on the same machine.

Whoever connects to a cluster sends it the token. Anybody may write an address into Ray's note below /tmp, and anybody
may listen on a free port.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from .. import network
from ..errors import Refusal

MAX_ADDRESS = 300  # bytes of the note
LISTEN = "0A"  # state of a socket in /proc/net/tcp


def current_cluster() -> Path:
    """Return the path of the note in which `ray start` writes the address of the cluster that it started."""
    return Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray" / "ray_current_cluster"


def noted_address() -> str:
    """Return the address in Ray's note, or "" without one; refuse a note or a cluster of another user."""
    note = current_cluster()
    try:
        descriptor = os.open(note, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    with os.fdopen(descriptor, "rb") as stream:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & stat.S_IWOTH:
            raise Refusal(f"RAY_ADDRESS=auto: others can write {note}; name the address of your cluster instead")
        address = stream.read(MAX_ADDRESS).decode(errors="replace").strip()
    if network.accepts_connections(address) and not is_own_cluster(address):
        raise Refusal(
            f"RAY_ADDRESS=auto: what listens at {address} is not a Ray cluster of this user; "
            "name the address of your cluster instead"
        )
    return address


def is_own_cluster(address: str) -> bool:
    """Return whether this user's processes run the cluster: its head, or here a node of a head elsewhere."""
    host, port = network.split_address(address)
    if network.interface_of(host) is None and host != "localhost":
        return any(f"--gcs-address={address}" in command for command in _own_commands())
    return port.isdigit() and listener_users(int(port)) == {os.geteuid()}


def listener_users(port: int) -> set[int]:
    """Return the ids of the users whose processes listen on this machine's TCP port; without /proc, this user's."""
    users: set[int] = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:] if table.is_file() else ():
            fields = line.split()
            if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                users.add(int(fields[7]))
    if users or Path("/proc/net/tcp").is_file():
        return users
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # a process of another user
            sockets = process.net_connections("tcp")
            if any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in sockets):
                users.add(process.uids().effective)
    return users


def _own_commands() -> Iterator[list[str]]:
    for process in psutil.process_iter(["uids"]):
        if process.info["uids"] and process.info["uids"].effective == os.geteuid():
            with suppress(psutil.Error):
                yield process.cmdline()
