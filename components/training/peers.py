"""The workers of one run, seen from one of them: rank, size, device, and the few exchanges the engine needs.

Alone (size 1) every exchange is the identity and torch.distributed is never touched.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import Stopped
from ..network import free_port
from . import shared_memory
from .shared_memory import SharedMemory

TIMEOUT = timedelta(seconds=shared_memory.TIMEOUT_SECONDS)
BARRIER_TIMEOUT = timedelta(days=365)  # for one whose neighbours have more to do; a neighbour that dies ends the wait


@dataclass
class Peers:
    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    shares: bool = True  # memory with the others, until it is seen that it does not
    memory: SharedMemory | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.shares = self.shares and self.device.type == "cpu"

    def gather(self, value: Any) -> list[Any]:
        """Everybody's `value`, in rank order, on every worker. Pickled and unpickled within one run only."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def broadcast(self, value: Any) -> Any:
        """Rank 0's `value`, on every worker."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device if self.device.type == "cuda" else None)
        return box[0]

    def exchange(self, values: Tensor, rows: list[int]) -> Tensor:
        """All-to-all: values [size, rows[rank], width], of which values[w] goes to worker w -> [sum(rows), width].

        rows: how many each worker sends to each.
        """
        size, width = values.shape[0], values.shape[2]
        if memory := self._memory(size * max(rows) * width * values.element_size()):
            return memory.exchange(values, rows)
        out = values.new_empty(sum(rows), width)
        dist.all_to_all_single(out, values.reshape(-1, width), rows, [rows[self.rank]] * size)
        return out

    def collect(self, part: Tensor) -> Tensor:
        """All-gather of equal parts [length] -> [size * length]."""
        if memory := self._memory(part.numel() * part.element_size()):
            return memory.collect(part)
        out = part.new_empty(self.size * len(part))
        dist.all_gather_into_tensor(out, part)
        return out

    def _memory(self, room: int) -> SharedMemory | None:
        """What all share, with that room for each (they ask for the same); None where they don't."""
        if self.shares and (self.memory is None or self.memory.room < room):
            self.memory = shared_memory.between(self, room)
            self.shares = self.memory is not None
        return self.memory if self.shares else None

    @contextmanager
    def independent(self) -> Iterator[Peers]:
        """Each worker goes its own way, as if it were alone; at the end, or stopped, it waits for the others."""
        alone = Peers(device=self.device)
        if self.size == 1:
            yield alone
            return
        group: Any = dist.new_group(backend="gloo", timeout=BARRIER_TIMEOUT)
        try:
            yield alone
        except Stopped:  # the others are asked to stop, too, and must have time to save
            dist.barrier(group)
            raise
        dist.barrier(group)


def join_group(rank: int, size: int, address: str, port: int, device: torch.device) -> Peers:
    """Enters the process group (NCCL between GPUs, gloo else) and returns this worker's view of it."""
    if size > 1:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            init_method=f"tcp://{address}:{port}",
            rank=rank,
            world_size=size,
            timeout=TIMEOUT,
        )
    return Peers(rank, size, device)


def leave_group() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def is_peer_loss(error: BaseException) -> bool:
    """Whether an exchange failed because another worker is gone (rather than by a mistake of our own)."""
    told = ("closed by peer", "reset by peer", "Broken pipe", "Connection refused", "remote process exited")
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in told)
    )


def fork_workers(function: Callable[..., Any], size: int, *arguments: Any, threads: int = 1) -> None:
    """Runs `function(peers, *arguments)` in `size` forked gloo workers: 0.1 s to the first step, no cluster."""
    torch.multiprocessing.start_processes(
        _forked, args=(function, size, free_port(), threads, arguments), nprocs=size, start_method="fork"
    )


def _forked(rank: int, function: Callable, size: int, port: int, threads: int, arguments: tuple) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(threads)
    try:
        function(join_group(rank, size, "127.0.0.1", port, torch.device("cpu")), *arguments)
    finally:
        leave_group()
