"""The output of `trainyard plan`, with real DVC, in a copy of the repository."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from components.files import files_digest
from components.processes import BIN
from pipelines.commands import plan
from pipelines.door import main
from pipelines.stage.bill import Bill, append_bill, describe_machine
from pipelines.stage.provenance import CODE_PATTERNS
from tests.workspace import clone

SOURCE, FINETUNE = (f"pipelines/transfer/{name}.yaml" for name in ("source", "finetune"))
STAGES = [f"pipelines/transfer/dvc.yaml:fit@{name}" for name in ("source", "finetune")]
NOTHING = ["would run nothing: all is up to date"]


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    clone(tmp_path / "yard", {})
    monkeypatch.chdir(tmp_path / "yard")
    return tmp_path / "yard"


@pytest.fixture
def yard(copy: Path) -> Path:
    """Provide a copy in which, for DVC, the flagship and the family `transfer` have run."""
    outs = [path for files in plan.flagship_stages().values() for path in files.written]
    for name in ("source", "finetune"):
        outs += [
            f"results/transfer/{name}/{out}"
            for out in ("model", "pictures", "tables", "metrics.json", "cost.json", "history.csv")
        ]
    for path in map(Path, outs):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    subprocess.run([BIN / "dvc", "commit", "--force", "--quiet", *plan.flagship_stages(), *STAGES], check=True)
    return copy


def changed(file: str, old: str, new: str) -> None:
    text = Path(file).read_text()
    assert old in text
    Path(file).write_text(text.replace(old, new, 1))


def plan_lines(capsys: pytest.CaptureFixture, *recipes: str) -> list[str]:
    """Run `plan` and return the lines after those that call a file fine, up to the forecast."""
    assert main(["plan", *recipes]) == 0
    lines = capsys.readouterr().out.splitlines()
    count = len(recipes) or 1
    assert all(": fine (" in line for line in lines[:count])
    forecast = next((index for index, line in enumerate(lines) if line.startswith("forecast")), len(lines))
    return lines[count:forecast]


def test_it_prints_what_would_run_and_why(yard: Path, capsys: pytest.CaptureFixture) -> None:
    assert plan_lines(capsys, SOURCE, FINETUNE, "params.yaml") == NOTHING
    changed("params.yaml", "samples: ", "samples: 1")
    expected = ["would run:", "  tune: changed deps: params.yaml (tune)"]
    assert plan_lines(capsys) == [*expected, "  and if that changes what they read: finetune, evaluate"]
    changed("components/storage/feed.py", '"""', '"""More. ')
    lines = plan_lines(capsys)
    assert lines[1].startswith("  prepare: changed deps: components/storage (modified)")
    assert [line.split(":")[0].strip() for line in lines[1:]] == [*plan.flagship_stages()]
    assert max(map(len, lines)) <= 120
    assert plan_lines(capsys, SOURCE)[1].startswith(f"  {STAGES[0]}: changed deps: components/storage")


def test_a_data_set_concerns_those_that_read_it(yard: Path, capsys: pytest.CaptureFixture) -> None:
    changed("components/data/digits.py", '"""', '"""More. ')
    lines = plan_lines(capsys)
    assert lines[1] == "  prepare: changed deps: components/data/digits.py (modified)"
    assert lines[-1].startswith("  and if that changes what they read: ")
    assert plan_lines(capsys, SOURCE) == NOTHING


SHOWN_OR_TRACKED = (
    *("components/drawings/figures.py", "components/verdicts/drift.py", "components/tracking/mirror.py"),
    *("components/cluster/spread.py", "pipelines/commands/summary.py", "pipelines/reports/report.py"),
)


def test_code_that_shows_or_tracks_a_result_reruns_nothing(yard: Path, capsys: pytest.CaptureFixture) -> None:
    code = files_digest(yard, [file for pattern in CODE_PATTERNS for file in yard.glob(pattern)])
    for file in SHOWN_OR_TRACKED:
        changed(file, '"""', '"""More. ')
    Path("components/drawings/new.py").write_text("")
    assert plan_lines(capsys) == NOTHING
    assert plan_lines(capsys, SOURCE) == NOTHING
    assert files_digest(yard, [file for pattern in CODE_PATTERNS for file in yard.glob(pattern)]) == code


def test_a_recipe_that_starts_from_another_recipes_model(yard: Path, capsys: pytest.CaptureFixture) -> None:
    changed(SOURCE, "epochs: ", "epochs: 1")
    expected = ["would run:", f"  {STAGES[0]}: changed deps: {SOURCE} (modified)"]
    assert plan_lines(capsys, FINETUNE) == [*expected, f"  and if that changes what they read: {STAGES[1]}"]
    assert plan_lines(capsys, SOURCE) == expected
    assert plan_lines(capsys) == NOTHING
    for run, seconds in (("source-1", 10.0), ("source-2", 20.0)):
        append_bill(Bill("transfer/source", run, "s", describe_machine(), 1, "FINISHED", 0.0, seconds))
    assert main(["plan", FINETUNE]) == 0
    forecast = [line.split() for line in capsys.readouterr().out.splitlines()[-3:]]
    assert forecast[0][:5] == ["transfer/source", "10", "to", "20", "s"]
    assert forecast[1] == ["transfer/finetune", "never", "run", "here"]


def test_no_stage_or_no_repository(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    mine = copy / "pipelines/transfer/mine.yaml"
    mine.write_text(Path(SOURCE).read_text())
    (line,) = plan_lines(capsys, str(mine))
    assert line.startswith(f"{mine}: no stage fit@mine in a dvc.yaml beside it")
    (copy / ".dvc").rename(tmp_path / "elsewhere")
    assert plan_lines(capsys) == plan_lines(capsys, SOURCE) == []


def test_another_dvc_at_work_is_not_waited_for(copy: Path, capsys: pytest.CaptureFixture) -> None:
    (copy / ".dvc/tmp").mkdir(exist_ok=True)
    code = (
        "import zc.lockfile, time; held = zc.lockfile.LockFile('.dvc/tmp/lock'); print(1, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([BIN / "python", "-c", code], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert plan_lines(capsys) == ["what would run is not known: another dvc is at work in this folder"]
        other.kill()


def test_a_model_that_cannot_take_the_pictures_is_refused_before_anything_runs(
    copy: Path, capsys: pytest.CaptureFixture
) -> None:
    changed(
        "params.yaml",
        "{use: models.resnet.ResNet, widths: [16, 32, 64], blocks: 1, stem: cifar}",
        "{use: models.nin.NiN}",
    )
    changed("params.yaml", "data.glyphs.Glyphs, size: 16", "data.glyphs.Glyphs, size: 8")
    changed("params.yaml", "data.digits.Digits, size: 16", "data.digits.Digits, size: 8")
    assert main(["plan"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "NiN" in captured.err
