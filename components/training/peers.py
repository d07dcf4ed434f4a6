"""The workers of one run as one of them sees them: rank, world size, device, and the collectives the engine needs.

With a world size of 1 every collective is the identity, and torch.distributed is never used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import Stopped
from . import handover, rendezvous, shared_memory
from .messages import decode_message, encode_message
from .rendezvous import Rendezvous
from .shared_memory import SharedMemory

Item = TypeVar("Item")
TIMEOUT = timedelta(seconds=shared_memory.TIMEOUT_SECONDS)
# a worker without work waits for others that still have some; the death of one of them ends the wait
BARRIER_TIMEOUT = timedelta(days=365)
# Messages of up to this many bytes, with their length, take one exchange; longer ones a second.
SHORT_MESSAGE = 512
LENGTH_BYTES = 8


@dataclass
class Peers:
    """One worker's view of the run's workers."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    shares_memory: bool = True  # with the other workers, until the first attempt fails
    memory: SharedMemory | None = field(default=None, repr=False)
    # where some workers do not share the driver's folder
    apart: handover.Apart | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.shares_memory = self.shares_memory and self.device.type == "cpu"

    def gather(self, value: Any) -> list[Any]:
        """Return the `value` of every worker, in rank order, on every worker; messages.py says what can be sent."""
        if self.size == 1:
            return [value]
        message = encode_message(value)
        heads = self._gather_bytes(_message_head(message), SHORT_MESSAGE)
        lengths = [_message_length(head) for head in heads]
        room = SHORT_MESSAGE - LENGTH_BYTES
        if max(lengths) <= room:
            return [decode_message(head[LENGTH_BYTES:]) for head in heads]
        return [decode_message(rest) for rest in self._gather_bytes(message, max(lengths))]

    def broadcast(self, value: Any, source: int = 0) -> Any:
        """Return the `value` of rank `source` on every worker; messages.py says what can be sent."""
        if self.size == 1:
            return value
        message = encode_message(value) if self.rank == source else b""
        head = self._broadcast_bytes(_message_head(message), SHORT_MESSAGE, source)
        length = _message_length(head)
        fits = length <= SHORT_MESSAGE - LENGTH_BYTES
        content = head[LENGTH_BYTES:] if fits else self._broadcast_bytes(message, length, source)
        return value if self.rank == source else decode_message(content)

    def hand_over(self, *paths: str | Path) -> None:
        """Let every worker read the files and folders that rank 0 has at `paths`; called by all at once.

        Nothing is done where the workers share a folder, not even a wait for what others still write.
        """
        if self.apart is not None:
            handover.hand_over(self, self.apart, [Path(path) for path in paths])

    @property
    def is_at_home(self) -> bool:
        """Return whether this worker shares the driver's folder, where original files are."""
        return self.apart is None or self.rank in self.apart.home

    def share_at_home(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return this worker's share of `items` that only workers which share the driver's folder can work on."""
        home = range(self.size) if self.apart is None else self.apart.home
        return items[home.index(self.rank) :: len(home)] if self.is_at_home else []

    def _gather_bytes(self, content: bytes, room: int) -> list[memoryview]:
        """Return the bytes of every worker, each filled up with zeros to `room` bytes."""
        out = torch.empty(self.size * room, dtype=torch.uint8, device=self.device)
        dist.all_gather_into_tensor(out, self._fill_up(content, room))
        gathered = out.cpu().numpy().data
        return [gathered[start : start + room] for start in range(0, len(gathered), room)]

    def _broadcast_bytes(self, content: bytes, room: int, source: int) -> memoryview:
        """Return the bytes of rank `source`, filled up with zeros to `room` bytes."""
        padded = self._fill_up(content, room)
        dist.broadcast(padded, src=source)
        return padded.cpu().numpy().data

    def _fill_up(self, content: bytes, room: int) -> Tensor:
        """Return the bytes with zeros after them, uint8 [room]."""
        return torch.frombuffer(bytearray(content.ljust(room, b"\0")), dtype=torch.uint8).to(self.device)

    def all_to_all(self, values: Tensor, rows: list[int]) -> Tensor:
        """Send values[w] of values [size, rows[rank], width] to each worker w; return [sum(rows), width].

        rows: how many rows each worker sends to every other.
        """
        size, width = values.shape[0], values.shape[2]
        if memory := self._memory(size * max(rows) * width * values.element_size()):
            return memory.all_to_all(values, rows)
        out = values.new_empty(sum(rows), width)
        dist.all_to_all_single(out, values.reshape(-1, width), rows, [rows[self.rank]] * size)
        return out

    def all_gather(self, part: Tensor) -> Tensor:
        """Return the workers' equal parts [length] one after another [size * length]."""
        if memory := self._memory(part.numel() * part.element_size()):
            return memory.all_gather(part)
        out = part.new_empty(self.size * len(part))
        dist.all_gather_into_tensor(out, part)
        return out

    def _memory(self, room: int) -> SharedMemory | None:
        """Return the shared memory with at least `room` bytes per worker, or None where there is none.

        Every worker must ask for the same `room`.
        """
        if self.shares_memory and (self.memory is None or self.memory.room < room):
            self.memory = _share_memory(self, room)
            self.shares_memory = self.memory is not None
        return self.memory if self.shares_memory else None

    @contextmanager
    def independent(self) -> Iterator[Peers]:
        """Let each worker work as if it were alone; at the end, or when stopped, wait for the others."""
        alone = Peers(device=self.device)
        if self.size == 1:
            yield alone
            return
        group: Any = dist.new_group(backend="gloo", timeout=BARRIER_TIMEOUT)
        try:
            yield alone
        except Stopped:  # the other workers are asked to stop, too, and need time to save
            dist.barrier(group)
            raise
        dist.barrier(group)


def _share_memory(peers: Peers, room: int) -> SharedMemory | None:
    """Return memory shared by all workers, or None where they cannot share any; called by all at the same time.

    Rank 0 creates a file in memory, which the others open through its process. Nothing remains of it after the last
    process ends, even if processes are killed.
    """
    processes = peers.gather(shared_memory.process_identity())
    if len({process and process[0] for process in processes}) > 1 or processes[0] is None:
        return None
    length, token = shared_memory.memory_length(peers.size, room), os.urandom(shared_memory.CACHE_LINE)
    file = shared_memory.create_memory(length, token) if peers.rank == 0 else None
    shared_file, shared_token = peers.broadcast((file, token))
    memory = shared_memory.open_memory(processes[0][1], shared_file, length, shared_token)
    open_everywhere = all(peers.gather(memory is not None))
    if file is not None:
        os.close(file)
    if memory is None or not open_everywhere:
        return None
    return SharedMemory(memory, peers.rank, [process for _, process in processes])


def _message_head(message: bytes) -> bytes:
    """Return the message's length and, if it fits into SHORT_MESSAGE bytes, the message."""
    head = len(message).to_bytes(LENGTH_BYTES, "little")
    return head + message if len(head) + len(message) <= SHORT_MESSAGE else head


def _message_length(head: memoryview) -> int:
    return int.from_bytes(head[:LENGTH_BYTES], "little")


def join_group(rank: int, size: int, place: Rendezvous, device: torch.device) -> Peers:
    """Enter the process group (NCCL between GPUs, otherwise gloo) and return this worker's view of it."""
    if size > 1:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=rendezvous.open_store(place, rank, size, TIMEOUT),
            rank=rank,
            world_size=size,
            timeout=TIMEOUT,
        )
    return Peers(rank, size, device)


def leave_group() -> None:
    """Leave the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def is_peer_loss(error: BaseException) -> bool:
    """Return whether a collective failed because another worker is gone, rather than by an error of this worker."""
    texts = ("closed by peer", "reset by peer", "Broken pipe", "Connection refused", "remote process exited")
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
    )


def fork_workers(function: Callable[..., Any], size: int, *arguments: Any) -> None:
    """Run `function(peers, *arguments)` in `size` forked gloo workers of one thread; they start in 0.1 s."""
    with rendezvous.private_folder() as place:
        torch.multiprocessing.start_processes(
            _run_forked, args=(function, size, place, arguments), nprocs=size, start_method="fork"
        )


def _run_forked(rank: int, function: Callable, size: int, place: Rendezvous, arguments: tuple) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    try:
        function(join_group(rank, size, place, torch.device("cpu")), *arguments)
    finally:
        leave_group()
