"""Checkpoints: written whole, found newest first, damaged ones passed over, bytes kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from components.training import checkpoint
from components.training.task import State


def state(seed: int, steps: int = 2) -> State:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    made = State({"net": net}, optimizers={"net": torch.optim.AdamW(net.parameters(), 0.1)})
    for _ in range(steps):
        net(torch.randn(2, 2, 5, 5)).square().sum().backward()
        made.optimizers["net"].step()
    made.tables["counts"] = np.arange(6).reshape(2, 3)
    made.step = steps
    return made


def test_unpacking_gives_back_every_byte_and_the_memory_format(tmp_path: Path) -> None:
    saved = state(0)
    checkpoint.write_checkpoint(tmp_path, saved, {"position": 3}, {"best": torch.ones(2)})
    tensors, record = checkpoint.load_latest(tmp_path)
    other = state(1, steps=0)
    checkpoint.unpack_state(other, tensors, record)
    ours, theirs = checkpoint.pack_state(saved), checkpoint.pack_state(other)
    assert ours[1] == theirs[1]
    assert all(torch.equal(value, theirs[0][name]) for name, value in ours[0].items())
    assert record["progress"] == {"position": 3}
    assert torch.equal(tensors["extra/best"], torch.ones(2))
    moments = other.optimizers["net"].state[other.modules["net"][0].weight]["exp_avg"]
    assert moments.is_contiguous(memory_format=torch.channels_last)


def test_two_are_kept_and_drafts_are_never_found(tmp_path: Path) -> None:
    for step in range(4):
        made = state(0)
        made.step = step
        checkpoint.write_checkpoint(tmp_path, made, {})
    (tmp_path / ".draft-1").mkdir()
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path)] == [
        "checkpoint-00000003",
        "checkpoint-00000002",
    ]


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["state.json", "state.safetensors"]), st.floats(0, 1), st.booleans())
def test_one_flipped_bit_or_a_cut_is_noticed(tmp_path_factory, name: str, where: float, cut: bool) -> None:
    folder = tmp_path_factory.mktemp("checkpoints")
    for step in (1, 2):
        made = state(0)
        made.step = step
        checkpoint.write_checkpoint(folder, made, {})
    file = checkpoint.list_checkpoints(folder)[0] / name
    blob = bytearray(file.read_bytes())
    place = int(where * (len(blob) - 1))
    blob[place] ^= 1 << 3
    file.write_bytes(blob[:place] if cut else blob)
    assert checkpoint.load_latest(folder)[1]["step"] == 1


def test_none_is_found_where_none_is_whole(tmp_path: Path) -> None:
    assert checkpoint.load_latest(tmp_path) is None
    (tmp_path / "checkpoint-00000001").mkdir()
    assert checkpoint.load_latest(tmp_path) is None


def test_a_full_disk_leaves_the_last_one_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.write_checkpoint(tmp_path, state(0), {})

    def full(path: Path, content: bytes) -> None:
        path.write_bytes(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "_write_through", full)
    later = state(1)
    later.step = 9
    with pytest.raises(OSError, match="No space"):
        checkpoint.write_checkpoint(tmp_path, later, {})
    assert checkpoint.load_latest(tmp_path)[1]["step"] == 2
