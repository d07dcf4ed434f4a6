"""Parts in an object store, read like local ones: each is fetched into the cache and mapped when it is needed.

A process maps the parts that its training step draws from (`hold`), those that come next, and MOST_SPARE others.
Background threads fetch what comes next.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ..errors import Refusal
from .part import Part
from .part_cache import SIZE_VARIABLE, HeldFile, PartAddress, PartCache

FETCHERS = 4  # threads per process
MOST_SPARE = 2  # mapped parts that no step has asked for
log = logging.getLogger(__name__)


class RemotePart:
    """A part in an object store, with the methods of `Part`."""

    def __init__(self, address: PartAddress) -> None:
        self.address = address
        self.path = address
        self.rows = address.rows
        self.columns = address.columns

    def take(self, name: str, rows: np.ndarray) -> Any:
        """Return the column at `rows` (int64 [B]) as `Part.take` does."""
        return open_parts().part(self.address).take(name, rows)

    def arrays(self, name: str) -> list[np.ndarray]:
        """Return a fixed-shape column as copies [rows, ...], one per record batch."""
        return [values.copy() for values in open_parts().part(self.address).arrays(name)]


@dataclass
class _Mapped:
    """A part that is mapped, and its file, which the cache keeps meanwhile."""

    part: Part
    file: HeldFile


class OpenParts:
    """The remote parts that this process has mapped."""

    def __init__(self, cache: PartCache) -> None:
        self.cache = cache
        self.lock = threading.RLock()
        self.futures: dict[str, Future[_Mapped | None]] = {}  # by digest, the part used last at the end
        self.held: set[str] = set()
        self.pool = ThreadPoolExecutor(FETCHERS, thread_name_prefix="fetch")

    def part(self, address: PartAddress) -> Part:
        """Return a mapped part; wait until it is fetched."""
        while True:
            with self.lock:
                future = self.futures.pop(address.sha256, None)
                is_new = future is None
                future = future or Future()
                self.futures[address.sha256] = future
            if is_new:
                self._close_spares(keep=address.sha256)
                self._fill(future, address)
            if mapped := future.result():
                return mapped.part
            # it was fetched ahead while the cache had no room
            self._forget(address.sha256, future)

    def hold(self, needed: Sequence[PartAddress], upcoming: Iterable[PartAddress]) -> None:
        """Keep the parts `needed` mapped until the next call, and fetch them and `upcoming` in the background."""
        addresses = {address.sha256: address for address in (*needed, *upcoming)}
        with self.lock:
            self.held = set(addresses)
            self._close_spares()
            for key, address in addresses.items():
                if key not in self.futures:
                    self.futures[key] = self.pool.submit(self._open, address, key in {a.sha256 for a in needed})

    def check_room(self, bytes: int, what: str) -> None:
        """Refuse a fit whose open parts do not fit into the cache; bytes: of this process alone."""
        if bytes > self.cache.limit:
            raise Refusal(
                f"{SIZE_VARIABLE}: {self.cache.limit / 1e9:g} GB, but {what} of {bytes / 1e9:.3g} GB at once;"
                " raise it or lower fit.window"
            )

    def _fill(self, future: Future[_Mapped | None], address: PartAddress) -> None:
        """Open a part in this thread, and give it, or the error, to all that wait for it."""
        try:
            future.set_result(self._open(address, wait=True))
        except BaseException as error:
            self._forget(address.sha256, future)
            future.set_exception(error)

    def _open(self, address: PartAddress, wait: bool) -> _Mapped | None:
        file = self.cache.open(address, wait)
        return None if file is None else _Mapped(Part(file.path), file)

    def _forget(self, key: str, future: Future[_Mapped | None]) -> None:
        with self.lock:
            if self.futures.get(key) is future:
                del self.futures[key]

    def _close_spares(self, keep: str = "") -> None:
        """Close the parts that are not held, but for the MOST_SPARE that were used last."""
        with self.lock:
            spares = [key for key in self.futures if key not in self.held and key != keep]
            for key in spares[: max(0, len(spares) - MOST_SPARE)]:
                future = self.futures.pop(key)
                if not future.cancel():
                    future.add_done_callback(_close)


def _close(future: Future[_Mapped | None]) -> None:
    """Let the cache remove the part that `future` brings; readers in this process keep their mapping."""
    if not future.cancelled() and future.exception() is None and (mapped := future.result()):
        mapped.file.close()


def open_parts() -> OpenParts:
    """Return the mapped parts of this process."""
    return _open_parts(os.getpid())


@lru_cache(maxsize=1)
def _open_parts(process: int) -> OpenParts:
    """Return the mapped parts of a process; those of a parent, and its threads, do not survive a fork."""
    return OpenParts(PartCache.from_environment())
