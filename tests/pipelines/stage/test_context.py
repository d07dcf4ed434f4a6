"""One stage at a time, and one that is asked to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from components.runs.journal import STOP
from pipelines.stage.context import stop_gracefully

ROOT = Path(__file__).parents[3]


def process(folder: Path, code: str) -> subprocess.Popen:
    code = "import time\nfrom pipelines.stage.context import alone\n" + textwrap.dedent(code)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code], cwd=folder, env=environment, **pipes)


def test_a_stage_waits_for_the_one_that_is_still_at_it(tmp_path: Path) -> None:
    first = process(
        tmp_path, "with alone('tune'):\n print('in', flush=True)\n time.sleep(3)\n print(time.time(), flush=True)"
    )
    assert first.stdout.readline() == "in\n"
    second = process(tmp_path, "with alone('tune'):\n print(time.time(), flush=True)")
    other = process(tmp_path, "with alone('pretrain'):\n print(time.time(), flush=True)")
    said, _ = second.communicate(timeout=60)
    assert f"process {first.pid} is still at this stage" in said
    ended = float(first.communicate(timeout=60)[0])
    assert float(said.splitlines()[-1]) >= ended
    assert float(other.communicate(timeout=60)[0]) < ended, "another stage is no matter of its"


def test_a_killed_stage_leaves_no_lock(tmp_path: Path) -> None:
    first = process(tmp_path, "with alone('tune'):\n print('in', flush=True)\n time.sleep(60)")
    assert first.stdout.readline() == "in\n"
    first.kill()
    first.communicate(timeout=60)
    said, _ = process(tmp_path, "with alone('tune'):\n print('mine')").communicate(timeout=60)
    assert said == "mine\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_one_interrupts(number: int, tmp_path: Path) -> None:
    before = signal.getsignal(number)
    (tmp_path / STOP).touch()  # left by a run that was killed while it stopped
    with pytest.raises(KeyboardInterrupt):
        with stop_gracefully(tmp_path):
            assert not (tmp_path / STOP).exists()
            os.kill(os.getpid(), number)
            time.sleep(0.01)
            assert (tmp_path / STOP).exists()
            os.kill(os.getpid(), number)
            time.sleep(0.01)
    assert not (tmp_path / STOP).exists()
    assert signal.getsignal(number) is before


def test_who_does_not_answer_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.stage.context.STOP_PATIENCE", 1)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        with stop_gracefully(tmp_path):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)
    assert time.monotonic() - began < 10
