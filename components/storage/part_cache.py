"""A bounded folder of parts that were fetched from an object store, shared by all processes of a machine.

    SHA256.arrow          a part whose bytes have this digest
    SHA256.BYTES.draft    a part that is being fetched; a later process goes on where a killed one stopped

Whoever reads a part holds a shared lock on its file, and whoever fetches it an exclusive one on the draft. When room
is needed, the files that were used least recently and that nobody holds are removed. Locks end with their process.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from ..errors import Refusal, TryLater
from ..workspace import work_folder
from .column import Column
from .object_store import CHUNK, ObjectStore

FOLDER_VARIABLE, SIZE_VARIABLE = "TRAINYARD_CACHE", "TRAINYARD_CACHE_GB"
DEFAULT_GB = 50.0
ROOM_PATIENCE = 60.0  # seconds to wait until other readers close a part
ATTEMPTS = 3  # to fetch a part whose bytes have another digest
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PartAddress:
    """A part in an object store, as the manifest describes it."""

    store: str
    sha256: str
    bytes: int
    rows: int
    columns: dict[str, Column] = field(compare=False, repr=False)

    @property
    def name(self) -> str:
        """Return the name of the object, and of the file in the cache."""
        return f"{self.sha256}.arrow"

    def __str__(self) -> str:
        return f"{self.store}/{self.name}"


@dataclass
class HeldFile:
    """A complete part in the cache, which is not removed until `close`."""

    path: Path
    file: BinaryIO

    def close(self) -> None:
        """Let the cache remove the file."""
        self.file.close()


class PartCache:
    """The parts in `folder`, which together take at most `limit` bytes."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit

    @classmethod
    def from_environment(cls) -> PartCache:
        """Return the cache of this machine: TRAINYARD_CACHE is its folder, TRAINYARD_CACHE_GB its size."""
        text = os.environ.get(SIZE_VARIABLE) or str(DEFAULT_GB)
        try:
            size = float(text)
        except ValueError:
            size = 0.0
        if not 0 < size < float("inf"):
            raise Refusal(f"{SIZE_VARIABLE}: {text!r} is not a number of gigabytes; set one such as 50")
        folder = os.environ.get(FOLDER_VARIABLE)
        return cls(Path(folder) if folder else work_folder() / "parts", int(size * 1e9))

    def open(self, address: PartAddress, wait: bool = True) -> HeldFile | None:
        """Return the part, fetched if it is not here.

        wait: for room, until others close their parts; otherwise return None where there is none.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        final = self.folder / address.name
        began = time.monotonic()
        while True:
            if held := self._hold(final):
                return held
            has_room, draft = self._claim(address)
            if draft is not None:
                with draft:
                    self._complete(address, draft)
            elif has_room:
                # another process fetches the part
                time.sleep(0.02)
            elif not wait:
                return None
            elif time.monotonic() - began > ROOM_PATIENCE:
                raise Refusal(
                    f"{self.folder}: no room for a part of {address.bytes / 1e6:,.0f} MB, because all"
                    f" {self.limit / 1e9:g} GB are in use; raise {SIZE_VARIABLE} or lower fit.window"
                )
            else:
                time.sleep(0.05)

    def add(self, address: PartAddress, file: Path) -> bool:
        """Move a file with the bytes of `address` into the cache if there is room; return whether it was moved."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock():
            if self.folder.stat().st_dev != file.stat().st_dev or not self._make_room(address.bytes):
                return False
            file.replace(self.folder / address.name)
        return True

    def _hold(self, path: Path) -> HeldFile | None:
        """Return the complete part at `path`, locked for reading, or None if there is none."""
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return None
        fcntl.flock(file, fcntl.LOCK_SH)
        if not _is_linked(file, path):
            file.close()
            return None
        # the kernel's own clock of files has steps of 4 ms
        os.utime(path, ns=(time.time_ns(), time.time_ns()))
        return HeldFile(path, file)

    def _claim(self, address: PartAddress) -> tuple[bool, BinaryIO | None]:
        """Return whether there is room for a part, and its draft if this process is the one to fetch it."""
        path = self._draft_path(address)
        with self._lock():
            if (self.folder / address.name).exists():
                return True, None
            if not path.exists() and not self._make_room(address.bytes):
                return False, None
            draft = path.open("ab+")
            if _try_lock(draft):
                return True, draft
        draft.close()
        return True, None

    def _complete(self, address: PartAddress, draft: BinaryIO) -> None:
        """Fetch what the draft lacks and give it its final name if its digest is right."""
        store = ObjectStore(address.store)
        path = self._draft_path(address)
        for _ in range(ATTEMPTS):
            with path.open("rb") as begun:
                digest = hashlib.file_digest(begun, "sha256")
            size = draft.seek(0, os.SEEK_END)
            while size < address.bytes:
                chunk = store.read(address.name, size, min(CHUNK, address.bytes - size))
                if not chunk:
                    break
                draft.write(chunk)
                digest.update(chunk)
                size += len(chunk)
            draft.flush()
            if size == address.bytes and digest.hexdigest() == address.sha256:
                with self._lock():
                    path.replace(self.folder / address.name)
                return
            log.warning("%s: %d bytes arrived with another SHA-256 than the manifest's; fetched again", address, size)
            draft.truncate(0)
        with self._lock():
            path.unlink()
        raise TryLater(f"{address}: has other bytes than the manifest says, {ATTEMPTS} times; prepare the data again")

    def _make_room(self, size: int) -> bool:
        """Remove the files that were used least recently until `size` more bytes fit; return whether they do."""
        if size > self.limit:
            raise Refusal(
                f"{self.folder}: a part of {size / 1e6:,.0f} MB does not fit into {self.limit / 1e9:g} GB;"
                f" raise {SIZE_VARIABLE}"
            )
        files = [*self.folder.glob("*.arrow"), *self.folder.glob("*.draft")]
        sizes = {path: _reserved_bytes(path) for path in files}
        excess = sum(sizes.values()) + size - self.limit
        if excess <= 0:
            return True
        for path in sorted(files, key=lambda path: path.stat().st_mtime):
            if _remove_unless_held(path):
                excess -= sizes[path]
                if excess <= 0:
                    return True
        return False

    def _draft_path(self, address: PartAddress) -> Path:
        return self.folder / f"{address.sha256}.{address.bytes}.draft"

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Let one process at a time count, add, rename and remove files."""
        with (self.folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _is_linked(file: BinaryIO, path: Path) -> bool:
    """Return whether an open file still has this path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _reserved_bytes(path: Path) -> int:
    """Return the size of a part, also of one that is being fetched."""
    return int(path.name.split(".")[1]) if path.suffix == ".draft" else path.stat().st_size


def _remove_unless_held(path: Path) -> bool:
    """Remove a file if no process holds a lock on it; return whether it was removed."""
    with path.open("rb") as file:
        if not _try_lock(file):
            return False
        path.unlink()
    return True


def _try_lock(file: BinaryIO) -> bool:
    """Lock an open file for this process alone unless somebody holds it; return whether it is locked."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
