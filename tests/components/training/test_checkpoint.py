"""Checkpoints are atomic, the newest valid one is loaded, and every byte comes back."""

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
    trained = State({"net": net}, optimizers={"net": torch.optim.AdamW(net.parameters(), 0.1)})
    for _ in range(steps):
        net(torch.randn(2, 2, 5, 5)).square().sum().backward()
        trained.optimizers["net"].step()
    trained.tables["counts"] = np.arange(6).reshape(2, 3)
    trained.step = steps
    return trained


def test_unpacking_restores_every_byte_and_the_memory_format(tmp_path: Path) -> None:
    saved = state(0)
    checkpoint.write_checkpoint(tmp_path, saved, {"position": 3}, {"best": torch.ones(2)})
    tensors, record = checkpoint.load_latest(tmp_path)
    other = state(1, steps=0)
    checkpoint.unpack_state(other, tensors, record)
    saved_tensors, saved_scalars = checkpoint.pack_state(saved)
    other_tensors, other_scalars = checkpoint.pack_state(other)
    assert saved_scalars == other_scalars
    assert all(torch.equal(value, other_tensors[name]) for name, value in saved_tensors.items())
    assert record["progress"] == {"position": 3}
    assert torch.equal(tensors["extra/best"], torch.ones(2))
    moments = other.optimizers["net"].state[other.modules["net"][0].weight]["exp_avg"]
    assert moments.is_contiguous(memory_format=torch.channels_last)


def test_two_checkpoints_are_kept_and_drafts_are_not_listed(tmp_path: Path) -> None:
    for step in range(4):
        trained = state(0)
        trained.step = step
        checkpoint.write_checkpoint(tmp_path, trained, {})
    (tmp_path / ".draft-1").mkdir()
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path)] == [
        "checkpoint-00000003",
        "checkpoint-00000002",
    ]


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["state.json", "state.safetensors"]), st.floats(0, 1), st.booleans())
def test_a_flipped_bit_or_a_truncated_file_is_noticed(tmp_path_factory, name: str, where: float, cut: bool) -> None:
    folder = tmp_path_factory.mktemp("checkpoints")
    for step in (1, 2):
        trained = state(0)
        trained.step = step
        checkpoint.write_checkpoint(folder, trained, {})
    file = checkpoint.list_checkpoints(folder)[0] / name
    blob = bytearray(file.read_bytes())
    position = int(where * (len(blob) - 1))
    blob[position] ^= 1 << 3
    file.write_bytes(blob[:position] if cut else blob)
    assert checkpoint.load_latest(folder)[1]["step"] == 1


def test_nothing_is_loaded_where_no_checkpoint_is_valid(tmp_path: Path) -> None:
    assert checkpoint.load_latest(tmp_path) is None
    (tmp_path / "checkpoint-00000001").mkdir()
    assert checkpoint.load_latest(tmp_path) is None


def test_a_full_disk_does_not_damage_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
