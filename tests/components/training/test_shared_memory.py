"""Shared memory gives the same results as gloo, in any order of arrival, and leaves nothing behind."""

from __future__ import annotations

import mmap
import os
import random
import select
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from components.training import peers, shared_memory
from components.training.peers import Peers
from components.training.shared_memory import SharedMemory

pytestmark = pytest.mark.skipif(not shared_memory.is_supported(), reason="needs Linux on x86_64")


def compare_with_sockets(joined: Peers, folder: Path) -> None:
    """Exchange random values of changing sizes in quick succession, through memory and through sockets."""
    common, own = random.Random(0), random.Random(joined.rank)
    sockets = Peers(joined.rank, joined.size, shares_memory=False)
    for step in range(60):
        rows = [common.randint(1, 3) for _ in range(joined.size)]
        width, kind = common.choice([1, 7, 3000]), common.choice([torch.float32, torch.float64, torch.int64])
        values = (torch.rand(joined.size, rows[joined.rank], width) * 1000).to(kind)
        values = values.transpose(0, 1).contiguous().transpose(0, 1)  # strided, as in the engine
        if own.random() < 0.2:
            time.sleep(own.choice([0.0005, 0.003, 0.08]))
        received = joined.all_to_all(values, rows)
        assert torch.equal(received, sockets.all_to_all(values, rows)), step
        parts = [joined.all_gather(received[0] + number) for number in range(common.randint(0, 3))]
        for number, part in enumerate(parts):
            assert torch.equal(part, sockets.all_gather(received[0] + number)), (step, number)
    assert joined.memory is not None
    assert sockets.memory is None
    (folder / str(joined.rank)).touch()


@pytest.mark.parametrize("size", [2, 3, 4])
def test_shared_memory_gives_the_same_results_as_gloo(size: int, tmp_path: Path) -> None:
    peers.fork_workers(compare_with_sockets, size, tmp_path)
    assert len(list(tmp_path.iterdir())) == size


def read_late(joined: Peers, folder: Path) -> None:
    """Let rank 0 read late; it must still read the values of its own exchange."""
    for step in range(200):
        received = joined.all_to_all(torch.full((2, 1, 50_000), float(step)), [1, 1])
        assert received.eq(step).all(), step
        if joined.rank == 0 and step % 50 == 0:
            time.sleep(0.06)
    (folder / str(joined.rank)).touch()


def test_a_fast_worker_does_not_overwrite_what_another_reads(tmp_path: Path) -> None:
    peers.fork_workers(read_late, 2, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def shared_handles() -> list[str]:
    """Return this process's handles of other processes and of files in memory, and the maps of such files."""
    files = []
    for file in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the folder's own
            files.append(str(file.readlink()))
    maps = Path("/proc/self/maps").read_text().splitlines()
    return [name for name in files if "pidfd" in name] + [name for name in files + maps if "memfd:trainyard" in name]


def exchange_and_release(joined: Peers, folder: Path) -> None:
    for width in (1, 10_000, 1_000_000):
        joined.all_to_all(torch.ones(2, 1, width), [1, 1])
        assert len(shared_handles()) == 3, "the other process, a map, and its file"
    joined.memory = None
    assert shared_handles() == []
    (folder / str(joined.rank)).touch()


def test_all_handles_are_released(tmp_path: Path) -> None:
    peers.fork_workers(exchange_and_release, 2, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def exchange_without_memory(joined: Peers, folder: Path, reason: str) -> None:
    """Let rank 1 be on another machine, on an unsupported system, or in another container."""
    if joined.rank == 1:
        if reason == "machine":
            other = folder / "boot_id"
            other.write_text("another machine\n")
            shared_memory.BOOT_ID = other
        elif reason == "system":
            shared_memory.is_supported = lambda: False
        else:
            shared_memory.open_memory = lambda *arguments: None
    assert joined.all_to_all(torch.full((2, 1, 3), float(joined.rank)), [1, 1]).tolist() == [[0.0] * 3, [1.0] * 3]
    assert joined.memory is None
    assert not joined.shares_memory, "not tried again"
    (folder / str(joined.rank)).touch()


@pytest.mark.parametrize("reason", ["machine", "system", "container"])
def test_workers_that_cannot_share_memory_use_sockets(reason: str, tmp_path: Path) -> None:
    peers.fork_workers(exchange_without_memory, 2, tmp_path, reason)
    assert {"0", "1"} <= {file.name for file in tmp_path.iterdir()}


def exchange_once_too_often(joined: Peers, folder: Path) -> None:
    shared_memory.TIMEOUT_SECONDS = 0.3
    joined.all_to_all(torch.ones(2, 1, 1), [1, 1])
    if joined.rank == 0:
        with pytest.raises(torch.distributed.DistError, match="did not come within"):
            joined.all_to_all(torch.ones(2, 1, 1), [1, 1])
        (folder / "0").touch()
    joined.gather(None)


def test_a_worker_may_end_right_after_its_last_exchange() -> None:
    """Check the worker whose end wakes this one, after it has raised its counter."""
    view = SharedMemory(mmap.mmap(-1, shared_memory.memory_length(2, 64)), 0, [os.getpid()] * 2)

    class Ending:
        def poll(self, milliseconds: int) -> list[tuple[int, int]]:
            """Raise the other worker's counter, and report its end."""
            view.counters[view.counter_indices[1]] += 1
            return [(0, select.POLLIN)]

    view.others = Ending()
    assert view.all_gather(torch.ones(2)).tolist() == [1, 1, 0, 0]


def test_the_wait_for_another_worker_times_out(tmp_path: Path) -> None:
    peers.fork_workers(exchange_once_too_often, 2, tmp_path)
    assert (tmp_path / "0").exists()
