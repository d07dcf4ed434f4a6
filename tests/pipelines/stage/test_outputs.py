"""Check how numbers of results are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.stage import outputs
from pipelines.stage.outputs import format_value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.12345, "0.123"),
        (256.0, "256"),
        (999.6, "1000"),
        (1024.0, "1024"),
        (-67238.4, "-67238"),
        (4.05e8, "4.05e+08"),
        (3e-15, "3e-15"),
        (0.0, "0"),
        (64, "64"),
        ("all", "all"),
        (True, "true"),
        (None, "null"),
    ],
)
def test_a_value_is_written_without_an_exponent_where_it_is_readable(value: Any, text: str) -> None:
    assert format_value(value) == text


@pytest.mark.parametrize("content", ["{", "[]", '{"fit": {"total": 1.0}}'])
def test_seconds_are_written_over_a_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    monkeypatch.setattr(outputs, "work_folder", lambda: tmp_path)
    (tmp_path / "seconds.json").write_text(content)
    outputs.write_seconds("tune", {"total": 2.0})
    assert outputs.read_seconds()["tune"] == {"total": 2.0}


def test_a_line_break_within_a_value_stays_in_it(tmp_path: Path) -> None:
    rows = [{"truth": "two\nlines", "predicted": "a\r\nb"}, {"truth": "x\u2028y", "predicted": "z\x0cw"}]
    file = tmp_path / "a.csv"
    outputs.write_table(file, rows)
    assert outputs.read_csv(str(file), ("truth", "predicted")) == rows
