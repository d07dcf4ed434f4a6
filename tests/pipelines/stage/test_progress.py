"""Check what a stage shows of the journals that its workers write."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from components.runs.journal import LOG, Journal
from pipelines.stage.progress import Progress


def test_a_resume_on_other_hardware_is_one_line_once(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    lines = Journal(tmp_path / "finetuned-0" / LOG)
    for _ in range(2):  # the second attempt does not repeat the line of the first
        with Progress("finetune", tmp_path):
            lines.write_resume(step=20, before=["1 thread on A"], now=["2 threads on A"])
        shown = capsys.readouterr().err.splitlines()
        assert shown == [
            "finetune finetuned-0: resumes at step 20 with 2 threads on A, not 1 thread on A as before: the bytes may"
            " differ"
        ]
        time.sleep(0.002)  # journals count milliseconds, and attempts are seconds apart


def test_a_warning_is_shown_when_it_is_written(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    lines = Journal(tmp_path / "fit" / LOG)
    lines.write_warning("of an attempt before")
    time.sleep(0.002)
    with Progress("finetune", tmp_path):
        lines.write_warning("the store failed")
    assert capsys.readouterr().err == "finetune fit: the store failed\n"
    assert lines.position == 0, "a repetition need not write it"
