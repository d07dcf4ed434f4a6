"""Memory shared by the workers of one machine, in place of sockets over loopback.

The cost of an exchange between processes is waiting. The reader of a socket sleeps, and on a virtual processor it is
woken milliseconds late. Here a worker polls the others' counters, without sleeping for as long as an exchange should
take.
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

import torch
import torch.distributed as dist
from torch import Tensor

CACHE_LINE = 64  # bytes: each counter has a cache line of its own
SPIN_SECONDS, YIELD_SECONDS = 0.001, 0.05  # waiting time before a worker yields the processor, and before it sleeps
TIMEOUT_SECONDS = 600.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class SharedMemory:
    """One worker's view of the memory: a token, a counter per worker, then twice `room` bytes per worker.

    Exchanges alternate between two halves. A half is written again only two exchanges later; by then the exchange in
    between has shown that every worker has read it. Counters are read and written without a lock. This is correct on
    x86 alone, where writes of one processor are seen in the order in which they were made.
    """

    def __init__(self, memory: mmap.mmap, rank: int, processes: list[int]) -> None:
        """Lay out `memory`; processes: the workers' process ids, by rank."""
        size = len(processes)
        head = CACHE_LINE * (1 + size)
        self.rank, self.size, self.room = rank, size, (len(memory) - head) // (2 * size)
        self.halves = torch.frombuffer(memory, dtype=torch.uint8, offset=head).view(2, size, self.room)
        self.counters = memoryview(memory).cast("q")
        self.counter_indices = range(CACHE_LINE // 8, head // 8, CACHE_LINE // 8)  # by rank
        self.exchanges = 0
        self.others = select.poll()
        for process in processes:
            if process != os.getpid():
                handle = os.pidfd_open(process)
                self.others.register(handle, select.POLLIN)  # ready when the process ends
                weakref.finalize(self, os.close, handle)

    def all_to_all(self, values: Tensor, rows: list[int]) -> Tensor:
        """Exchange values [size, rows[rank], width]; see `Peers.all_to_all`."""
        self._begin(values)
        width = values.shape[2]
        return torch.cat([self._part(w, values, (self.size, rows[w], width))[self.rank] for w in range(self.size)])

    def all_gather(self, part: Tensor) -> Tensor:
        """Exchange parts of equal length; see `Peers.all_gather`."""
        self._begin(part)
        return torch.cat([self._part(w, part, part.shape) for w in range(self.size)])

    def _begin(self, values: Tensor) -> None:
        """Write this worker's `values` of the next exchange and wait for the others'."""
        self.exchanges += 1
        self._part(self.rank, values, values.shape).copy_(values)
        self._wait_for_others()

    def _part(self, worker: int, like: Tensor, shape: tuple[int, ...] | torch.Size) -> Tensor:
        """Return the memory of a worker in this exchange, in the data type of `like`."""
        length = torch.Size(shape).numel() * like.element_size()
        return self.halves[self.exchanges % 2, worker, :length].view(like.dtype).view(shape)

    def _wait_for_others(self) -> None:
        self.counters[self.counter_indices[self.rank]] = self.exchanges
        start = time.monotonic()
        for index in self.counter_indices:
            while self.counters[index] < self.exchanges:
                waited = time.monotonic() - start
                if waited > SPIN_SECONDS:
                    self._sleep(waited, index)

    def _sleep(self, waited: float, index: int) -> None:
        """Sleep for as long as suits the time waited so far; index: of the counter that is waited for."""
        if waited < YIELD_SECONDS:
            time.sleep(0)
            return
        ended = self.others.poll(1)  # milliseconds; returns at once when a process ends
        # a worker that ended after this exchange had seen all counters rise
        if ended and self.counters[index] < self.exchanges:
            raise dist.DistError("another worker's process is gone: connection closed by peer")
        if waited > TIMEOUT_SECONDS:
            raise dist.DistError(f"another worker did not come within {TIMEOUT_SECONDS:.0f} s")


def is_supported() -> bool:
    """Return whether this system can share memory between processes as this module does."""
    return sys.platform == "linux" and platform.machine() == "x86_64" and BOOT_ID.is_file()


def process_identity() -> tuple[str, int] | None:
    """Return (boot id of the machine, process id), or None where memory cannot be shared."""
    return (BOOT_ID.read_text(), os.getpid()) if is_supported() else None


def memory_length(size: int, room: int) -> int:
    """Return the bytes of a memory for `size` workers with at least `room` bytes each."""
    room = -(-room // CACHE_LINE) * CACHE_LINE
    return CACHE_LINE * (1 + size) + 2 * size * room


def create_memory(length: int, token: bytes) -> int:
    """Create a file in memory that begins with `token`; return its descriptor."""
    file = os.memfd_create("trainyard")
    os.truncate(file, length)
    os.pwrite(file, token, 0)
    return file


def open_memory(process: int, file: int, length: int, token: bytes) -> mmap.mmap | None:
    """Map the file that another process created, or return None where it is out of reach.

    The token guards against containers, where the same process id may name another process.
    """
    try:
        handle = os.open(f"/proc/{process}/fd/{file}", os.O_RDWR)
    except OSError:
        return None
    try:
        memory = mmap.mmap(handle, length)
    except (OSError, ValueError):
        return None
    finally:
        os.close(handle)
    return memory if memory[:CACHE_LINE] == token else None
