"""`trainyard inspect` prints what lies there, and writes a recipe with its stage."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from components.recipes import recipe
from pipelines.door import main
from pipelines.stage import dvc_files
from pipelines.stage.check import check_recipe


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "data" / "raw" / "mails.csv"
    file.parent.mkdir(parents=True)
    file.write_text("\n".join(["label,text", *(f"{'ab'[i % 2]},a text of number {i}" for i in range(40))]))
    return file


def test_the_recipe_and_its_stage_are_written(table: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["inspect", "data/raw/mails.csv"]) == 0
    out = capsys.readouterr().out
    assert "rows: 40 (a 20, b 20)" in out
    assert "use: data.text_table.TextTable" in out
    assert not Path("pipelines").exists()
    for name in ("mails", "mails-2"):
        assert main(["inspect", "data/raw/mails.csv", "--write", name]) == 0
        assert f"dvc repro pipelines/own/dvc.yaml:fit@{name}" in capsys.readouterr().out
        check_recipe(recipe.load(f"pipelines/own/{name}.yaml"), name)
    assert Path("reports/inspect/mails.png").is_file()
    assert dvc_files.stage_names("pipelines/own/dvc.yaml") == ["fit@mails", "fit@mails-2", "fit"]
    stage = yaml.safe_load(Path("pipelines/own/dvc.yaml").read_text())["stages"]["fit"]
    assert stage["foreach"]["mails"]["data"] == "data/raw/mails.csv"
    assert "components/data/text_table.py" in stage["foreach"]["mails"]["code"]
    before = Path("pipelines/own/dvc.yaml").read_bytes()
    assert main(["inspect", "data/raw/mails.csv", "--write", "mails"]) == 2
    assert "mails.yaml exists; choose another name" in capsys.readouterr().err
    assert Path("pipelines/own/dvc.yaml").read_bytes() == before


def test_faults_of_the_command_get_one_line(table: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["inspect", "data/raw/mails.csv", "--write", "My Mails"]) == 2
    assert "must be a name of small letters" in capsys.readouterr().err
    assert main(["inspect", "nowhere"]) == 2
    assert "no such file or folder" in capsys.readouterr().err
    (table.parent / "a.exe").write_bytes(b"MZ")
    assert main(["inspect", "data/raw/a.exe", "--write", "a"]) == 2
    assert "no recipe is proposed for this layout" in capsys.readouterr().err
    assert not Path("pipelines").exists()


def test_more_odd_things_than_the_screen_shows_are_in_a_file(table: Path, capsys: pytest.CaptureFixture) -> None:
    table.write_text(
        table.read_text() + "".join(f"\n{c},the text {i}" for i in range(59) for c in "ab") + "\na,b,c" * 3
    )
    assert main(["inspect", str(table)]) == 0
    out = capsys.readouterr().out
    assert "... and 20 more like these" in out
    assert "the full list: reports/inspect/mails.txt" in out
    assert len(Path("reports/inspect/mails.txt").read_text().splitlines()) == 60
    table.write_text(table.read_text().partition("\na,the")[0] + "\na,b,c\na,the right text" * 120)
    assert main(["inspect", str(table)]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "rows 42, 44" in line)
    assert line.endswith(" ...")
    assert Path("reports/inspect/mails.txt").read_text().splitlines()[0].endswith(", 280 (120): 3 values, not 2")
