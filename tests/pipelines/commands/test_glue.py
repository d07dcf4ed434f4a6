"""`trainyard glue`: runs each task once per seed, reports GLUE's metrics, and says where missing data are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from components.data.glue import GLUE, SHEETS
from components.recipes import recipe
from pipelines.commands import glue
from pipelines.commands.results.record import Record, content_digest, write_record
from pipelines.door import main


@pytest.fixture
def yard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "bert").symlink_to(Path(__file__).parents[3] / "pipelines" / "bert")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_data_it_says_where_to_get_them(yard: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["glue", "--raw", "nowhere"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "nowhere: holds no file of cola, sst2, mrpc" in line
    assert GLUE.originals["cola/train.tsv"][0] in line
    assert main(["glue", "--tasks", "sst3"]) == 2
    assert "sst3 is not a task of GLUE; it has cola, sst2" in capsys.readouterr().err
    assert not (yard / "results").exists()


def test_every_task_with_data_has_a_recipe_and_its_metrics() -> None:
    assert set(SHEETS) < set(glue.TASKS)
    for task in SHEETS:
        content = recipe.load(Path(__file__).parents[3] / "pipelines" / "bert" / f"{task}.yaml")
        assert content["data"]["task"] == task
    assert all(glue.where_to_get(task, "nowhere") for task in glue.TASKS)


def test_each_seed_runs_once_and_the_report_shows_mean_and_deviation(yard: Path) -> None:
    """Let the fits write scores as `trainyard fit` does, because real ones take minutes."""
    fitted = []

    def write_metrics(path: Path) -> None:
        content = recipe.load(path)
        is_random = content["task"].get("random", False)
        fitted.append((path.parent.name, content["data"]["task"], content["seed"], content["task"]["start"], is_random))
        folder = Path("results") / path.parent.name / path.stem
        folder.mkdir(parents=True)
        score = 0.5 + content["seed"] / 10 - 0.3 * is_random
        (folder / "metrics.json").write_text(json.dumps({"matthews": score, "pearson": score, "spearman": score / 2}))

    for _ in range(2):  # the second time nothing is left to do
        scores = glue.run_tasks(["cola", "stsb"], "my/bert", 3, "raw", write_metrics)
    arms = [
        (task, seed, "my/bert", is_random) for task in ("cola", "stsb") for seed in range(3) for is_random in (0, 1)
    ]
    assert fitted == [("glue", *arm) for arm in arms]
    report = glue.format_report(scores, ["qnli", "rte"], "raw", "my/bert", ["cola"])
    assert "Seeds of cola come from docs/records/bert" in report
    assert "| cola | matthews | 0.600 ± 0.100 | 0.300 ± 0.100 | 3 | 0.521 | 0.605 |" in report
    assert "| stsb | spearman | 0.300 ± 0.050 | 0.150 ± 0.050 | 3 | 0.858 | 0.865 |" in report
    assert "not the same experiment" in report
    assert "- qnli: gluebenchmark.com; no data set here reads it" in report
    assert f"- rte: {GLUE.originals['rte/train.tsv'][0]}" in report
    glue.draw_report(scores)
    assert (yard / "results" / "glue" / "glue.png").stat().st_size > 5000


def test_a_recorded_seed_is_not_repeated_while_its_recipe_is_the_same(yard: Path) -> None:
    path = glue.FAMILY / "rte.yaml"
    facts = {"commits": ["", ""], "hardware": "", "split": "test", "monitor": "accuracy", "direction": "max"}
    scores = {"accuracy": [0.6, 0.7], "f1": [0.1, 0.2]}
    scratch = {"accuracy": [0.5, 0.4], "f1": [0.0, 0.3]}
    facts |= {"recipe": content_digest(path), "scratch": scratch}
    record = Record(seeds=[0, 1], seconds=[1.0, 1.0], scores=scores, **facts)
    write_record(path, record)

    def refuse(path: Path) -> None:
        raise AssertionError(f"{path} should not run")

    assert glue.run_tasks(["rte"], None, 1, "data/raw", refuse) == glue.run_tasks(["rte"], None, 2, "data/raw", refuse)
    assert glue.run_tasks(["rte"], None, 2, "data/raw", refuse)["rte"] == glue.Arms(
        [{"accuracy": 0.6, "f1": 0.1}, {"accuracy": 0.7, "f1": 0.2}],
        [{"accuracy": 0.5, "f1": 0.0}, {"accuracy": 0.4, "f1": 0.3}],
    )
    with pytest.raises(
        AssertionError, match=r"rte-pretrained-seed0-.* should not run"
    ):  # another BERT is another experiment
        glue.run_tasks(["rte"], "my/bert", 1, "data/raw", refuse)
    write_record(path, replace(record, recipe="0" * 16))
    assert glue.recorded_scores("rte") == glue.Arms([], [])
    write_record(path, replace(record, scratch={}))
    with pytest.raises(AssertionError, match=r"rte-scratch-seed0-.* should not run"):
        glue.run_tasks(["rte"], None, 2, "data/raw", refuse)


def test_the_page_shows_the_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[3])
    scores = {task: glue.recorded_scores(task) for task in glue.TASKS if task in SHEETS}
    text = "\n".join(glue.format_scores(scores))
    assert text in (glue.FAMILY / "README.md").read_text(), "run `trainyard glue --readme`"
    assert all(len(arms.pretrained) == len(arms.scratch) >= 3 for arms in scores.values())


def test_a_page_without_marks_is_refused_before_any_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    for other in (["--start", "my/bert"], ["--tasks", "cola"]):
        assert main(["glue", "--readme", *other]) == 2
        assert "leave out --start and --tasks" in capsys.readouterr().err
    assert main(["glue", "--readme"]) == 2
    assert "pipelines/bert/README.md: lacks the line '<!-- trainyard glue -->'" in capsys.readouterr().err
