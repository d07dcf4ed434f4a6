"""The comparison of a family: its numbers are those of the runs, and the README gets table and picture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.errors import Refusal
from pipelines.commands import compare
from pipelines.commands.results.record import Record, write_record


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "pipelines" / "vision"
    folder.mkdir(parents=True)
    (folder / "dvc.yaml").write_text("stages: {}\n")
    for name in ("small", "large", "never-run"):
        (folder / f"{name}.yaml").write_text("data: {}\n")
    (folder / "README.md").write_text(
        "before\n<!-- trainyard compare -->\nold\n<!-- end of trainyard compare -->\nafter\n"
    )
    write_results(
        "small",
        0.9,
        {
            "parameters": 61706.0,
            "flops": 846e3,
            "predict_seconds": 0.0025,
            "train_seconds": 1.25,
            "samples_per_second": 8000.0,
        },
    )
    write_results("large", 0.95, {"parameters": 5e6, "flops": 5e8})
    return folder


def write_results(system: str, accuracy: float, cost: dict[str, float]) -> None:
    place = Path("results/vision") / system
    place.mkdir(parents=True)
    scores = {"accuracy": accuracy, "loss": 0.1, "accuracy_low": accuracy - 0.01, "accuracy_high": accuracy + 0.01}
    (place / "metrics.json").write_text(json.dumps(scores))
    (place / "cost.json").write_text(json.dumps(cost))


def test_table_and_picture_come_from_the_results(family: Path, capsys: pytest.CaptureFixture) -> None:
    before = (family / "README.md").read_text()
    compare.main("pipelines/vision")
    assert (family / "README.md").read_text() == before, "a page under git is only written on request"
    assert Path("results/vision/comparison.png").read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
    compare.main("pipelines/vision", readme=True)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert lines[2] == "| large | 0.9500 [0.940, 0.960] | 5,000,000 | 500.00 | - | - | - |"
    assert lines[3] == "| small | 0.9000 [0.890, 0.910] | 61,706 | 0.85 | 2.5 | 1.2 | 8,000 |"
    assert len(lines) == 4, "a system without results is left out"
    readme = (family / "README.md").read_text()
    assert readme.startswith("before\n")
    assert readme.endswith("after\n")
    assert "old" not in readme
    assert "| small |" in readme
    assert "![accuracy against cost](comparison.png)" in readme
    assert (family / "comparison.png").read_bytes().startswith(b"\x89PNG")
    compare.main("pipelines/vision", readme=True)
    assert (family / "README.md").read_text() == readme
    (family / "README.md").write_text("no marks")
    with pytest.raises(Refusal, match="lacks the line '<!-- trainyard compare -->'"):
        compare.main("pipelines/vision", readme=True)


def test_nothing_to_compare_is_refused(family: Path) -> None:
    with pytest.raises(Refusal, match="is not a family of recipes"):
        compare.main("pipelines/visions")
    for file in Path("results").rglob("metrics.json"):
        file.unlink()
    with pytest.raises(Refusal, match="no results yet"):
        compare.main("pipelines/vision")


def test_a_score_without_an_interval_is_compared_if_all_tasks_monitor_it(family: Path) -> None:
    for name, map50 in (("small", 0.8), ("large", 0.7)):
        (family / f"{name}.yaml").write_text("task: {use: tasks.rcnn.RCNN}\n")
        (Path("results/vision") / name / "metrics.json").write_text(json.dumps({"map": 0.5, "map50": map50}))
    rows = compare.read_runs(family)
    assert [list(row.scores) for row in rows] == [["map50"], ["map50"]]
    assert [row.system for row in rows] == ["small", "large"]
    assert "| small | 0.8000 |" in compare.format_table(rows)
    cells = "data: {use: data.proposals.SelectiveSearch, of: {use: data.bccd.BCCD}}\ntask: {use: tasks.rcnn.RCNN}\n"
    (family / "large.yaml").write_text(cells)
    (family / "small.yaml").write_text("data: {folder: data/raw/raccoon}\ntask: {use: tasks.rcnn.RCNN}\n")
    lines = compare.format_table(compare.read_runs(family)).splitlines()
    assert lines[0].startswith("| system | data | map50 |")
    assert [line[:27] for line in lines[2:]] == ["| large | bccd | 0.7000 | 5", "| small | raccoon | 0.8000 "]
    (family / "large.yaml").write_text("task: {use: tasks.language.LanguageModel}\n")
    with pytest.raises(Refusal, match="its systems share no score"):
        compare.read_runs(family)


@pytest.mark.parametrize("task", ["tasks.window_forecast.WindowForecast", "tasks.kernel_regression.KernelRegression"])
def test_the_lowest_error_comes_first(family: Path, task: str) -> None:
    """Check a task that states what it monitors, and one that takes it from another task."""
    for name, value in (("small", 0.8), ("large", 0.7)):
        (family / f"{name}.yaml").write_text(f"task: {{use: {task}}}\n")
        metrics = {"mse": value, "mse_low": value - 0.1, "mse_high": value + 0.1}
        (Path("results/vision") / name / "metrics.json").write_text(json.dumps(metrics))
    assert [(row.system, *row.scores) for row in compare.read_runs(family)] == [("large", "mse"), ("small", "mse")]


def test_records_are_compared_over_their_seeds(family: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(Refusal, match="no records yet"):
        compare.main("pipelines/vision", records=True)
    cost = {"parameters": 61706.0, "flops": 846e3, "predict_seconds": 0.0025}
    for system, losses in (("small", [0.3, 0.1]), ("large", [0.4])):
        record = Record(
            recipe="",
            commits=[""],
            hardware="",
            split="test",
            monitor="mse",
            direction="min",
            seeds=list(range(len(losses))),
            seconds=[2.0] * len(losses),
            scores={"mse": losses, "skill": [0.5] * len(losses), "loss": losses},
            cost=cost if system == "small" else {},
        )
        write_record(family / f"{system}.yaml", record)
    compare.main("pipelines/vision", readme=True, records=True)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert lines == [
        "| system | mse | skill | seeds | parameters | MFLOPs per picture | ms per picture | seconds |",
        "|---|---|---|---|---|---|---|---|",
        "| small | 0.200 ± 0.141 | 0.500 ± 0.000 | 2 | 61,706 | 0.85 | 2.5 | 2.0 |",
        "| large | 0.400 | 0.500 | 1 | - | - | - | 2.0 |",
    ]
    assert "| small | 0.200" in (family / "README.md").read_text()
