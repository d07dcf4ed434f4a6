"""Full, small and read-only disks, and a limit on the size of files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from components.tasks.classification import Classification
from components.training import checkpoint
from components.training.peers import Peers
from components.training.task import State
from pipelines.door import exit_code
from pipelines.workers import preparation
from tests.bad_input.case import ROOT
from tests.bad_input.test_training import train


@contextmanager
def mount_memory(folder: Path, options: str) -> Iterator[None]:
    """Mount a file system in memory at `folder`; skip the test where that is not allowed."""
    folder.mkdir(exist_ok=True)
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
    if mount.returncode:
        pytest.skip(f"no file system can be mounted here: {mount.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def make_state(size: int) -> State:
    net = torch.nn.Linear(size, 256)
    return State({"net": net}, optimizers={"net": torch.optim.SGD(net.parameters(), lr=0.1)})


def test_a_disk_that_is_too_small_is_refused_before_the_start(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with mount_memory(tmp_path / "run", "size=256k"):
        assert exit_code(train(epochs=1)(tmp_path)) == 2
        message = capsys.readouterr().err
        assert "run: 0 MB free, but checkpoints may need" in message
        assert message.count("\n") == 1
        assert not list(Path("run").iterdir())


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with mount_memory(tmp_path / "run", "size=2m"):
        folder = Path("run")
        checkpoint.write_checkpoint(folder, make_state(512), {})
        later = make_state(1600)  # does not fit beside the first one
        later.step = 1
        assert exit_code(lambda: checkpoint.write_checkpoint(folder, later, {})) == 2
        message = capsys.readouterr().err
        assert "run/checkpoint-00000001: the disk is full; make room" in message
        assert message.count("\n") == 1
        assert [path.name for path in folder.iterdir()] == ["checkpoint-00000000"]
        assert checkpoint.load_latest(folder) is not None


class Filling(Classification):
    """Classification during which another program fills the disk at step 10."""

    def loss(self, state: State, shard: Any) -> Any:
        if state.step == 10:
            with Path("run/filler").open("ab") as file, suppress(OSError):
                while True:
                    file.write(bytes(4096))
                    file.flush()
        return super().loss(state, shard)


def test_a_run_continues_when_a_full_disk_has_room_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    call = train(epochs=4)(tmp_path)
    assert exit_code(call) == 0
    undisturbed = checkpoint.list_checkpoints(Path("run"))[0].joinpath("state.safetensors").read_bytes()
    shutil.rmtree("run")
    with mount_memory(tmp_path / "run", "size=4m"):
        assert exit_code(train(task=Filling, epochs=4)(tmp_path)) == 2
        message = capsys.readouterr().err
        assert "the disk is full; make room" in message
        assert message.count("\n") == 1
        latest = checkpoint.load_latest(Path("run"))
        assert latest is not None
        assert latest[1]["step"] == 10
        Path("run/filler").unlink()
        assert exit_code(call) == 0
        assert checkpoint.list_checkpoints(Path("run"))[0].joinpath("state.safetensors").read_bytes() == undisturbed


def test_a_read_only_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with mount_memory(tmp_path / "out", "ro"):
        section = {"use": "data.digits.Digits", "labels": 100, "size": 8}
        assert exit_code(lambda: preparation.write_data_sets(Peers(), {"out": section}) and 0) == 2
        message = capsys.readouterr().err
        assert "the disk is read-only; work in a folder that can be written" in message
        assert message.count("\n") == 1


def test_a_file_above_the_size_limit_is_refused_and_leaves_nothing_incomplete(tmp_path: Path) -> None:
    """The limit cannot be raised again, so the test runs in a process of its own."""
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "from pipelines.door import exit_code; from pipelines.workers import preparation\n"
        "from components.training.peers import Peers\n"
        "section = {'use': 'data.digits.Digits', 'labels': 100, 'size': 8}\n"
        "sys.exit(exit_code(lambda: preparation.write_data_sets(Peers(), {'out': section}) and 0))"
    )
    command, environment = [sys.executable, "-B", "-c", code], os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 2, done.stderr
    assert "a file may not grow so large here" in done.stderr
    assert not list(Path("out").glob("*")), "no incomplete part"
