"""The benchmark of doors measures what `trainyard inspect` proposes, and writes its table."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks import doors
from components.errors import Refusal
from components.files import read_object


def test_a_door_is_measured_and_its_line_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    mails = tmp_path / "packed" / "mails" / "all.csv"
    mails.parent.mkdir(parents=True)
    mails.write_text("\n".join(["label,text", *(f"{'ab'[i % 2]},number {i} of {'xy'[i % 2]}" for i in range(80))]))
    Path("data/raw/mails").mkdir(parents=True)
    shutil.make_archive("data/raw/mails/mails", "gztar", tmp_path / "packed")
    Path("data/raw/odd").mkdir()
    Path("data/raw/odd/a.exe").write_bytes(b"MZ")
    Path("docs").mkdir()
    page = Path("docs/own-data.md")
    page.write_text("before\nafter\n")
    with pytest.raises(Refusal, match=r"own-data\.md: lacks the line"):
        doors.main([])
    page.write_text("\n".join(["before", *doors.MARKS, "after"]))
    monkeypatch.setattr(doors, "SETS", ("absent", "mails"))
    assert doors.main([]) == 0
    record = read_object(doors.RECORDS)["mails"]
    assert record["files"] == 1
    assert record["scores"]["macro_f1"] == [1.0]
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert "| mails | a table of texts with labels | 1 | " in lines[4]
    assert doors.main(["odd"]) == 1
    assert "odd: data/raw/odd: no recipe is proposed" in capsys.readouterr().err
    assert page.read_text().splitlines() == lines
