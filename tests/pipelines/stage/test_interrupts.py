"""Check that a signal asks the workers of a stage to save and stop, and that a second one interrupts."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from components.runs.journal import STOP
from pipelines.stage import interrupts
from pipelines.stage.interrupts import stop_gracefully


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_asks_and_second_one_interrupts(number: int, tmp_path: Path) -> None:
    before = signal.getsignal(number)
    (tmp_path / STOP).touch()  # from a run that was killed while it stopped
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


def test_stage_that_does_not_stop_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "STOP_TIMEOUT", 1)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        with stop_gracefully(tmp_path):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)
    assert time.monotonic() - started < 10
