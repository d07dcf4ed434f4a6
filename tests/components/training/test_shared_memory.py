"""Exchanges through shared memory give what gloo gives, in any order of arrival, and leave nothing behind."""

from __future__ import annotations

import random
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from components.training import peers, shared_memory
from components.training.peers import Peers

pytestmark = pytest.mark.skipif(not shared_memory.is_supported(), reason="needs Linux on x86_64")


def both(joined: Peers, folder: Path) -> None:
    """Random exchanges of growing and shrinking sizes, one right behind the other, through memory and sockets."""
    alike, mine = random.Random(0), random.Random(joined.rank)
    sockets = Peers(joined.rank, joined.size, shares_memory=False)
    for step in range(60):
        rows = [alike.randint(1, 3) for _ in range(joined.size)]
        width, kind = alike.choice([1, 7, 3000]), alike.choice([torch.float32, torch.float64, torch.int64])
        values = (torch.rand(joined.size, rows[joined.rank], width) * 1000).to(kind)
        values = values.transpose(0, 1).contiguous().transpose(0, 1)  # as the engine gives them
        if mine.random() < 0.2:
            time.sleep(mine.choice([0.0005, 0.003, 0.08]))
        found = joined.all_to_all(values, rows)
        assert torch.equal(found, sockets.all_to_all(values, rows)), step
        parts = [joined.all_gather(found[0] + number) for number in range(alike.randint(0, 3))]
        for number, part in enumerate(parts):
            assert torch.equal(part, sockets.all_gather(found[0] + number)), (step, number)
    assert joined.memory is not None
    assert sockets.memory is None
    (folder / str(joined.rank)).touch()


@pytest.mark.parametrize("size", [2, 3, 4])
def test_it_gives_what_gloo_gives(size: int, tmp_path: Path) -> None:
    peers.fork_workers(both, size, tmp_path)
    assert len(list(tmp_path.iterdir())) == size


def unread(joined: Peers, folder: Path) -> None:
    """The first reads late, and is overtaken by nobody: what it reads is of its own exchange."""
    for step in range(200):
        found = joined.all_to_all(torch.full((2, 1, 50_000), float(step)), [1, 1])
        assert found.eq(step).all(), step
        if joined.rank == 0 and step % 50 == 0:
            time.sleep(0.06)
    (folder / str(joined.rank)).touch()


def test_who_is_quick_does_not_overwrite_what_another_reads(tmp_path: Path) -> None:
    peers.fork_workers(unread, 2, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def held() -> list[str]:
    """What this process holds of other processes and of files in memory, and of these what is mapped."""
    files = []
    for file in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the folder's own
            files.append(str(file.readlink()))
    maps = Path("/proc/self/maps").read_text().splitlines()
    return [name for name in files if "pidfd" in name] + [name for name in files + maps if "memfd:trainyard" in name]


def tidy(joined: Peers, folder: Path) -> None:
    for width in (1, 10_000, 1_000_000):
        joined.all_to_all(torch.ones(2, 1, width), [1, 1])
        assert len(held()) == 3, "the other process; one map, and its file"
    joined.memory = None
    assert held() == []
    (folder / str(joined.rank)).touch()


def test_nothing_is_left_of_it(tmp_path: Path) -> None:
    peers.fork_workers(tidy, 2, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def elsewhere(joined: Peers, folder: Path, why: str) -> None:
    """The second is on another machine, or sees other processes than the first."""
    if joined.rank == 1:
        if why == "machine":
            other = folder / "boot_id"
            other.write_text("another machine\n")
            shared_memory.BOOT_ID = other
        elif why == "system":
            shared_memory.is_supported = lambda: False
        else:
            shared_memory.open_memory = lambda *arguments: None
    assert joined.all_to_all(torch.full((2, 1, 3), float(joined.rank)), [1, 1]).tolist() == [[0.0] * 3, [1.0] * 3]
    assert joined.memory is None
    assert not joined.shares_memory, "not tried again"
    (folder / str(joined.rank)).touch()


@pytest.mark.parametrize("why", ["machine", "system", "container"])
def test_who_can_not_share_uses_sockets(why: str, tmp_path: Path) -> None:
    peers.fork_workers(elsewhere, 2, tmp_path, why)
    assert {"0", "1"} <= {file.name for file in tmp_path.iterdir()}


def silent(joined: Peers, folder: Path) -> None:
    shared_memory.TIMEOUT_SECONDS = 0.3
    joined.all_to_all(torch.ones(2, 1, 1), [1, 1])
    if joined.rank == 0:
        with pytest.raises(torch.distributed.DistError, match="did not come within"):
            joined.all_to_all(torch.ones(2, 1, 1), [1, 1])
        (folder / "0").touch()
    joined.gather(None)


def test_who_does_not_come_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    peers.fork_workers(silent, 2, tmp_path)
    assert (tmp_path / "0").exists()
