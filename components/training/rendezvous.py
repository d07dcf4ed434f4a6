"""The place where the workers of one run meet, which nobody else may enter.

torch's own rendezvous listens on every network interface of the first worker, on a port that another process may have
taken before it. Here workers of one machine meet in a file in a folder that only this user may open. Workers of several
machines meet at a socket that is bound to the cluster's network address before anybody is told of it.
"""

from __future__ import annotations

import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed import Store

PREFIX = "trainyard-meet-"
_open_sockets: dict[int, socket.socket] = {}  # port -> socket of this process at which others will meet it
_places: list[Rendezvous] = []  # of this process: the latest is that of its run


@dataclass(frozen=True)
class Rendezvous:
    """The meeting place of the workers of one run: a private folder, or the socket of rank 0."""

    secret: str  # begins every key, so that the keys of another run are not taken for ours
    folder: str = ""
    host: str = ""
    port: int = 0

    @property
    def is_local(self) -> bool:
        """Return whether all workers are on one machine."""
        return bool(self.folder)


def meet_in_folder() -> Rendezvous:
    """Return a place for workers of this machine, in a new folder (mode 0700)."""
    return Rendezvous(secrets.token_hex(16), folder=tempfile.mkdtemp(prefix=PREFIX))


def meet_at_address(host: str) -> Rendezvous:
    """Return a place at `host`, an address of this machine; to be called in the process of rank 0.

    The socket is bound here and passed on to the store, so no other process can take the port in between.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, 0), family=family, backlog=1024)
    port = int(listener.getsockname()[1])
    _open_sockets[port] = listener
    return Rendezvous(secrets.token_hex(16), host=host, port=port)


@contextmanager
def private_folder() -> Iterator[Rendezvous]:
    """Yield a place for workers of this machine and remove it afterwards."""
    place = meet_in_folder()
    try:
        yield place
    finally:
        remove_place(place)


def choose_place(place: Rendezvous) -> None:
    """Set, in this process, the place at which the workers of its run meet."""
    _places[:] = [place]


def current_place() -> Rendezvous:
    """Return the place that `choose_place` has set."""
    return _places[-1]


def leave_place(place: Rendezvous) -> None:
    """Remove the folder of `place` if this worker was the last one to leave it.

    torch removes the file in it then. A folder removed earlier would let the others wait for their file to come back.
    """
    if place.folder:
        with suppress(OSError):
            Path(place.folder).rmdir()


def remove_place(place: Rendezvous) -> None:
    """Remove the folder of `place`, if it has one on this machine, after all workers have ended."""
    if place.folder:
        shutil.rmtree(place.folder, ignore_errors=True)


def open_store(place: Rendezvous, rank: int, size: int, timeout: timedelta) -> Store:
    """Return torch's store at `place`, through which the workers exchange their own addresses."""
    from torch.distributed import FileStore, PrefixStore, TCPStore

    store: Store
    if place.is_local:
        store = FileStore(str(Path(place.folder) / "store"), size)
        store.set_timeout(timeout)
    else:
        listener = _open_sockets.pop(place.port).detach() if rank == 0 else None
        store = TCPStore(
            place.host, place.port, size, rank == 0, timeout, wait_for_workers=False, master_listen_fd=listener
        )
    return PrefixStore(place.secret, store)
