"""The output of `trainyard run` at its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines import door
from pipelines.commands import run


def test_a_part_of_the_pipeline_has_no_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run._print_results(["prepare"]) == 0
    assert "the summary needs all stages" in capsys.readouterr().out
    assert door.exit_code(lambda: run._print_results([])) == 2, "the complete pipeline would have written a result"
