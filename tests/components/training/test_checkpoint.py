"""Checkpoints are atomic, the newest valid one is loaded, and every byte comes back."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from components.errors import Refusal
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


def test_only_abandoned_drafts_are_removed(tmp_path: Path) -> None:
    """A draft of a process that still runs is never removed, nor is a fresh one of another machine."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    host = platform.node()
    current = (f".draft-{host}-{os.getppid()}", f".draft-{os.getppid()}", f".draft-elsewhere-{ended.pid}")
    abandoned = (f".draft-{host}-{ended.pid}", f".draft-{ended.pid}", f".draft-{host}-{os.getpid()}")
    margins = {
        ".draft-elsewhere-7": checkpoint.DRAFT_LIFETIME - 60,
        ".draft-elsewhere-8": checkpoint.DRAFT_LIFETIME + 1,
    }
    for name in (*current, *abandoned, *margins):
        (tmp_path / name).mkdir()
    for name, age in margins.items():
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    checkpoint.write_checkpoint(tmp_path, state(0), {})
    assert {path.name for path in tmp_path.glob(".draft-*")} == {*current, ".draft-elsewhere-7"}
    assert checkpoint.load_latest(tmp_path) is not None


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

    monkeypatch.setattr(checkpoint, "write_through", full)
    later = state(1)
    later.step = 9
    with pytest.raises(OSError, match="No space"):
        checkpoint.write_checkpoint(tmp_path, later, {})
    assert checkpoint.load_latest(tmp_path)[1]["step"] == 2


@pytest.mark.parametrize(("optimised", "copies"), [(True, 9), (False, 3)])
def test_a_run_begins_only_with_room_for_its_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimised: bool, copies: int
) -> None:
    """Three checkpoints, as one more than is kept is on the disk at times; with an optimiser, two slots per weight."""
    state = State({"net": nn.Linear(3, 2)})  # 8 numbers of 4 bytes
    if optimised:
        state.optimizers["net"] = torch.optim.AdamW(state.modules["net"].parameters())
    need = copies * 8 * 4
    usage = shutil.disk_usage(tmp_path)
    for free in (need, need - 1):
        monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda folder, free=free: usage._replace(free=free))
        if free == need:
            checkpoint.check_free_space(tmp_path / "run" / "below", state)
            assert (tmp_path / "run" / "below").is_dir()
        else:
            with pytest.raises(Refusal, match=r"run: 0 MB free, but checkpoints may need 0 MB; make room"):
                checkpoint.check_free_space(tmp_path / "run", state)


def test_missing_space_is_reported_in_megabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda folder: usage._replace(free=5_000_000))
    with pytest.raises(Refusal, match="5 MB free, but checkpoints may need 12 MB"):
        checkpoint.check_free_space(tmp_path, State({"net": nn.Linear(1000, 1000, bias=False)}))


def test_what_is_carried_and_tied_weights_come_back(tmp_path: Path) -> None:
    trained = state(0)
    trained.modules["net"].append(nn.Linear(2, 2, bias=False)).append(nn.Linear(2, 2, bias=False))
    trained.modules["net"][3].weight = trained.modules["net"][2].weight
    trained.carry = {1: {"hidden": torch.arange(3.0)}, 0: {"hidden": torch.zeros(3), "cell": torch.ones(2)}}
    checkpoint.write_checkpoint(tmp_path, trained, {"position": 0})
    tensors, record = checkpoint.load_latest(tmp_path)
    other = state(1, steps=0)
    other.modules["net"].append(nn.Linear(2, 2, bias=False)).append(nn.Linear(2, 2, bias=False))
    checkpoint.unpack_state(other, tensors, record)
    assert torch.equal(other.modules["net"][3].weight, trained.modules["net"][2].weight)
    assert {i: set(carry) for i, carry in other.carry.items()} == {0: {"hidden", "cell"}, 1: {"hidden"}}
    assert torch.equal(other.carry[1]["hidden"], torch.arange(3.0))
    assert other.step == trained.step
    assert other.optimizers["net"].param_groups[0]["betas"] == (0.9, 0.999)
    assert np.array_equal(other.tables["counts"], trained.tables["counts"])


def seal(path: Path, change: Callable[[dict], Any]) -> None:
    """Change the record of a checkpoint, and compute its checksums again, as only its writer should."""
    sealed = json.loads((path / "state.json").read_text())
    record = sealed["record"]
    record["sha256"] = hashlib.sha256((path / "state.safetensors").read_bytes()).hexdigest()
    record = change(record) or record
    text = json.dumps(record, sort_keys=True)
    (path / "state.json").write_text(
        json.dumps({"record": record, "sha256": hashlib.sha256(text.encode()).hexdigest()})
    )


def retype(path: Path, change: Callable[[dict], Any]) -> None:
    tensors = load_file(path / "state.safetensors")
    change(tensors)
    save_file(tensors, path / "state.safetensors")
    seal(path, lambda record: None)


def replace_by_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def replace_by_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


WEIGHT = "modules/net/0.weight"
DAMAGE: dict[str, Callable[[Path], Any]] = {
    "JSON of another shape": lambda path: (path / "state.json").write_text("[1, 2]"),
    "JSON of another record": lambda path: (path / "state.json").write_text('{"record": 1, "sha256": 2}'),
    "nested JSON": lambda path: (path / "state.json").write_text("[" * 99999),
    "not a safetensors file": lambda path: (
        (path / "state.safetensors").write_bytes(b"\xff" * 64),
        seal(path, lambda record: None),
    ),
    "no step": lambda path: seal(path, lambda record: record.pop("step") and None),
    "a step that is a text": lambda path: seal(path, lambda record: record.update(step="2")),
    "a list of scalars": lambda path: seal(path, lambda record: record.update(scalars=[])),
    "no position": lambda path: seal(path, lambda record: record.update(progress={})),
    "no optimiser": lambda path: seal(path, lambda record: record["scalars"].clear()),
    "a record that is a list": lambda path: seal(path, lambda record: [1]),
    "a missing tensor": lambda path: retype(path, lambda tensors: tensors.pop(WEIGHT)),
    "another dtype": lambda path: retype(path, lambda tensors: tensors.update({WEIGHT: tensors[WEIGHT].double()})),
    "another shape": lambda path: retype(path, lambda tensors: tensors.update({WEIGHT: tensors[WEIGHT][:1]})),
    "an optimiser's parameter 9": lambda path: retype(
        path, lambda tensors: tensors.update({"optimizers/net/9/exp_avg": torch.ones(1)})
    ),
    "an optimiser's parameter 4": lambda path: retype(
        path, lambda tensors: tensors.update({"optimizers/net/4/exp_avg": torch.ones(1)})
    ),
    "an optimiser's parameter -1": lambda path: retype(
        path, lambda tensors: tensors.update({"optimizers/net/-1/exp_avg": torch.ones(1)})
    ),
    "another scalar's parameter 4": lambda path: seal(
        path, lambda record: record["scalars"]["net"]["state"].update({"4": {}})
    ),
    "another number of parameters": lambda path: seal(
        path, lambda record: record["scalars"]["net"]["groups"][0]["params"].pop() and None
    ),
    "a position that is a text": lambda path: seal(path, lambda record: record.update(progress={"position": "2"})),
    "a folder for state.json": lambda path: replace_by_folder(path / "state.json"),
    "a folder for state.safetensors": lambda path: replace_by_folder(path / "state.safetensors"),
    "a pipe for state.json": lambda path: replace_by_pipe(path / "state.json"),
    "a file for the folder": lambda path: (shutil.rmtree(path), path.write_text("")),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_every_damage_falls_back_to_the_checkpoint_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    for step in (1, 2):
        trained = state(0)
        trained.step = step
        checkpoint.write_checkpoint(tmp_path, trained, {"position": step})
    newest = checkpoint.list_checkpoints(tmp_path)[0]
    assert checkpoint.load_latest(tmp_path, state(1, steps=0))[1]["step"] == 2
    DAMAGE[damage](newest)
    fresh = state(1, steps=0)
    tensors, record = checkpoint.load_latest(tmp_path, fresh)
    assert record["step"] == 1
    checkpoint.unpack_state(fresh, tensors, record)
    (line,) = caplog.messages
    assert "checkpoint-00000002 is damaged" in line
    assert "\n" not in line
