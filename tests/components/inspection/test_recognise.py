"""Plain text is recognised; files that cannot be inspected are counted, with what to do about them."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.errors import Refusal
from tests.components.inspection.layouts import inspect, prepare


def test_plain_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("It was the best of times, it was the worst of times. " * 80)
    assert prepare(inspect(tmp_path), tmp_path / "out")["columns"]["token"]["shape"] == [65]


@pytest.mark.parametrize("name", ["nothing", "a.zip", "empty"])
def test_what_cannot_be_inspected_gets_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK")
    (tmp_path / "empty").mkdir()
    with pytest.raises(Refusal, match=r"no such file|is packed; unpack it|holds no visible file"):
        inspect(tmp_path / name)


def test_other_files_are_counted(tmp_path: Path) -> None:
    for name in ("a.exe", "a.zip", "b.zip"):
        (tmp_path / name).write_bytes(b"MZ")
    findings = inspect(tmp_path)
    assert findings.recipe is None
    assert findings.odd == [
        "1 file .exe: passed over",
        "2 files .zip: packed; unpack what belongs to the data, then inspect again",
    ]


def test_classes_that_are_hardly_two_and_missing_values_are_said(tmp_path: Path) -> None:
    labels = ["ham", "Ham", "caf\u00e9", "cafe\u0301", "NaN"]
    lines = [f"a text of number {row},{labels[row % 5]}" for row in range(60)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *lines]))
    assert inspect(tmp_path / "a.csv").odd == [
        "class 'NaN' looks like a missing value; empty these fields, or leave the rows out",
        "classes 'cafe\u0301' and 'caf\u00e9' differ in case, blanks or Unicode form alone",
        "classes 'Ham' and 'ham' differ in case, blanks or Unicode form alone",
    ]
