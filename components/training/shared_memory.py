"""Memory that the workers of one machine share: they exchange through it what would go over loopback.

What an exchange between processes costs is the waiting. A socket's reader sleeps, and is woken milliseconds late where
the processor is a virtual one; here a worker looks for the others without sleeping, for as long as it should take.
"""

from __future__ import annotations

import mmap
import os
import platform
import select
import sys
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:
    from .peers import Peers

CACHE_LINE = 64  # bytes: a counter has a processor's cache line to itself
SPIN_SECONDS, YIELD_SECONDS = 0.001, 0.05  # seconds of waiting until it lets others run, and until it sleeps
TIMEOUT_SECONDS = 600.0  # seconds
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class SharedMemory:
    """One worker's view of a stretch of memory: a token, a counter for each worker, then twice `room` bytes for each.

    Exchanges alternate between two halves. A half is written again only two exchanges later; by then the one in between
    has shown that every worker has read it. The counters are read and written without a lock, which is right on x86
    alone, where what one processor writes is seen in the order it was written.
    """

    def __init__(self, memory: mmap.mmap, rank: int, processes: list[int]) -> None:
        size = len(processes)
        head = CACHE_LINE * (1 + size)
        self.rank, self.size, self.room = rank, size, (len(memory) - head) // (2 * size)
        self.halves = torch.frombuffer(memory, dtype=torch.uint8, offset=head).view(2, size, self.room)
        self.counters, self.places = memoryview(memory).cast("q"), range(CACHE_LINE // 8, head // 8, CACHE_LINE // 8)
        self.exchanges = 0
        self.others = select.poll()
        for process in processes:
            if process != os.getpid():
                watched = os.pidfd_open(process)
                self.others.register(watched, select.POLLIN)  # when the process ends
                weakref.finalize(self, os.close, watched)

    def exchange(self, values: Tensor, rows: list[int]) -> Tensor:
        self._mine(values).copy_(values)
        self._meet()
        width = values.shape[2]
        return torch.cat([self._of(w, values, (self.size, rows[w], width))[self.rank] for w in range(self.size)])

    def collect(self, part: Tensor) -> Tensor:
        self._mine(part).copy_(part)
        self._meet()
        return torch.cat([self._of(w, part, part.shape) for w in range(self.size)])

    def _mine(self, like: Tensor) -> Tensor:
        self.exchanges += 1
        return self._of(self.rank, like, like.shape)

    def _of(self, worker: int, like: Tensor, shape: tuple[int, ...] | torch.Size) -> Tensor:
        """What a worker puts into this exchange."""
        length = torch.Size(shape).numel() * like.element_size()
        return self.halves[self.exchanges % 2, worker, :length].view(like.dtype).view(shape)

    def _meet(self) -> None:
        """Until all have come as far."""
        self.counters[self.places[self.rank]] = self.exchanges
        began = time.monotonic()
        for place in self.places:
            while self.counters[place] < self.exchanges:
                waited = time.monotonic() - began
                if waited > SPIN_SECONDS:
                    self._sleep(waited)

    def _sleep(self, waited: float) -> None:
        if waited < YIELD_SECONDS:
            return time.sleep(0)
        if self.others.poll(1):  # ms; it wakes when one ends
            raise dist.DistError("another worker's process is gone: connection closed by peer")
        if waited > TIMEOUT_SECONDS:
            raise dist.DistError(f"another worker did not come within {TIMEOUT_SECONDS:.0f} s")
        return None


def between(peers: Peers, room: int) -> SharedMemory | None:
    """Shared by all workers, `room` bytes at least for each; None where they can't: asked by all at the same time.

    Rank 0 makes a file in memory, which the others open by its process: nothing is left of it, whoever is killed.
    """
    processes = peers.gather((BOOT_ID.read_text(), os.getpid()) if is_supported() else None)
    if len({process and process[0] for process in processes}) > 1 or processes[0] is None:
        return None
    room = -(-room // CACHE_LINE) * CACHE_LINE
    length = CACHE_LINE * (1 + peers.size) + 2 * peers.size * room
    made, token = -1, os.urandom(CACHE_LINE)
    if peers.rank == 0:
        made = os.memfd_create("trainyard")
        os.truncate(made, length)
        os.pwrite(made, token, 0)
    file, token = peers.broadcast((made, token))
    memory = _opened(processes[0][1], file, length)
    ours = (
        memory is not None and memory[:CACHE_LINE] == token
    )  # in another container a process of that number is another
    everybody = all(peers.gather(ours))
    if made >= 0:
        os.close(made)
    if memory is None or not everybody:
        return None
    return SharedMemory(memory, peers.rank, [process for _, process in processes])


def is_supported() -> bool:
    return sys.platform == "linux" and platform.machine() == "x86_64" and BOOT_ID.is_file()


def _opened(process: int, file: int, length: int) -> mmap.mmap | None:
    try:
        opened = os.open(f"/proc/{process}/fd/{file}", os.O_RDWR)
    except OSError:
        return None
    try:
        return mmap.mmap(opened, length)
    except (OSError, ValueError):
        return None
    finally:
        os.close(opened)
