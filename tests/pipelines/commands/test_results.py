"""Compare the recipes' headers, the records and RESULTS.md with each other; and test the command itself."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from components.errors import Refusal
from components.files import read_object
from components.recipes import recipe
from pipelines.commands.results import fits, page, record, searches
from pipelines.commands.results.expectation import read_expectation
from pipelines.commands.results.measure import measure_recipe
from pipelines.commands.results.scratch import without_pretraining
from pipelines.stage.check import check_recipe

ROOT = Path(__file__).parents[3]
RECIPES = sorted(path.relative_to(ROOT) for path in ROOT.glob("pipelines/*/*.yaml") if path.name != "dvc.yaml")
MEASURED = [path for path in RECIPES if (ROOT / record.record_path(path)).is_file()]
MOST_SPREAD = 6  # times the standard deviation over seeds that an interval may be wide, besides its rounding
each_measured = pytest.mark.parametrize("path", MEASURED, ids=lambda path: f"{path.parent.name}/{path.stem}")


@pytest.fixture
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


# ------------------------------------------------------------------------------------------------ the records here


def test_every_record_has_its_recipe() -> None:
    assert len(MEASURED) >= 1
    files = {path.relative_to(ROOT) for path in (ROOT / record.FOLDER).rglob("*") if path.is_file()}
    assert files == {record.record_path(path) for path in MEASURED}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_header_states_figures_where_there_is_a_record(path: Path) -> None:
    """Check that a recipe has both or neither; `trainyard results --measure RECIPE` writes the record."""
    assert (read_expectation(ROOT / path) is not None) == (path in MEASURED)


@each_measured
def test_header_and_record_agree(path: Path, at_root: None) -> None:
    expectation, measured = read_expectation(path), record.read_record(path)
    assert expectation is not None
    assert measured is not None
    assert measured.recipe == record.content_digest(path), f"the recipe changed: trainyard results --measure {path}"
    assert len(measured.seeds) == expectation.seeds
    for score, (low, high) in expectation.intervals.items():
        values = measured.scores[score]
        assert len(values) == expectation.seeds
        outside = [value for value in values if not expectation.covers(score, value)]
        assert not outside, f"{path}: expects {score} {low} to {high}, measured {outside}"
        deviation = record.mean_and_deviation(values)[1]
        if deviation is not None:
            rounding = 2 * 10.0 ** -len(low.partition("e")[0].partition(".")[2])
            assert float(high) - float(low) <= MOST_SPREAD * deviation + rounding, f"{score}: the interval says little"


def test_the_page_shows_the_records(at_root: None) -> None:
    content = page.PAGE.read_text()
    assert page.MARKS[0] in content
    shown = content.partition(page.MARKS[0])[2].partition(page.MARKS[1])[0].strip("\n")
    assert shown == page.format_tables(Path("pipelines")), "run `trainyard results`"


# ------------------------------------------------------------------------------------------------ the command


@pytest.fixture
def yard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with one small recipe and a page the current directory; return the recipe's path."""
    monkeypatch.chdir(tmp_path)
    folder = Path("pipelines/vision")
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "pipelines/vision/dvc.yaml", folder)
    content = yaml.safe_load((ROOT / "pipelines/vision/softmax.yaml").read_text())
    content["data"] |= {"labels": 100, "size": 8}
    content["fit"] |= {"epochs": 2, "batch": 20}
    path = folder / "softmax.yaml"
    path.write_text("# Expect: accuracy 0.10 to 0.90 over 2 seeds; published 0.5 (a book)\n" + yaml.safe_dump(content))
    page.PAGE.write_text(f"before\n{page.MARKS[0]}\nold\n{page.MARKS[1]}\nafter\n")
    return path


def test_seeds_are_run_recorded_and_shown(
    yard: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipelines.stage.progress.LINE_INTERVAL", 0.05)
    assert page.main([str(yard)]) == 0
    assert re.search(r"^softmax 1 run: step \d+/\d+", capsys.readouterr().err, re.MULTILINE), "long work shows progress"
    measured = record.read_record(yard)
    assert measured is not None
    assert measured.seeds == [0, 1]
    assert len(set(measured.scores["loss"])) == 2, "another seed gives another figure"
    assert len(measured.seconds) == 2
    assert measured.baselines["constant"] == pytest.approx(0.1, abs=0.02)
    text = page.PAGE.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    (row,) = [line for line in text.splitlines() if line.startswith("| softmax |")]
    mean, deviation = record.mean_and_deviation(measured.scores["accuracy"])
    assert f"| 0.5 (a book) | accuracy 0.10 to 0.90 | test accuracy {mean:.3f} ± {deviation:.3f} | 2 |" in row
    before = record.record_path(yard).read_bytes()
    page.main([])
    assert page.PAGE.read_text() == text
    assert record.record_path(yard).read_bytes() == before


def test_fine_tuning_is_measured_from_scratch_as_well(yard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the fits return scores, because a pretrained network is not at hand."""
    runs = []

    def fit_once(content: dict, data: dict, folder: Path, seed: int) -> Any:
        task = content["task"]
        runs.append((folder.name, seed, task.get("random", False), task["frozen"], task["layer_decay"]))
        facts = SimpleNamespace(monitor=("accuracy", "max"))
        scores = {"accuracy": 0.5 + seed / 10 - 0.4 * task.get("random", False)}
        return SimpleNamespace(scores=scores, measurements=facts, split="test", cost={})

    monkeypatch.setattr(fits, "fit_once", fit_once)
    monkeypatch.setattr(fits, "score_baselines", lambda *_: {"untrained": 0.1})
    path = Path("pipelines/vision/softmax.yaml")
    path.write_text((ROOT / "pipelines/bert/rte.yaml").read_text())
    measured = fits.measure_fits(path, recipe.load(path), range(2))
    assert measured.scores["accuracy"] == pytest.approx([0.5, 0.6])
    assert measured.scratch["accuracy"] == pytest.approx([0.1, 0.2])
    content = recipe.load(path)["task"]
    tuned, scratch = (content["frozen"], content["layer_decay"]), (0, 1.0)
    assert [fit[2:] for fit in runs] == [(False, *tuned)] * 2 + [(True, *scratch)] * 2
    assert [fit[:2] for fit in runs][2:] == [("scratch", 0), ("scratch", 1)]
    record.write_record(path, measured)
    read = record.read_record(path)
    assert read is not None
    assert read.scratch["accuracy"] == pytest.approx([0.1, 0.2])
    row = page.format_row("rte", None, measured)
    assert "test accuracy 0.550 ± 0.071; from scratch accuracy 0.150 ± 0.071 |" in row


BERT_TASKS = ["code-words", "cola", "grid", "rte", "sst2", "stsb", "wnli", "wnut17", "xquad"]


def test_fine_tuning_of_texts_alone_has_an_arm_from_scratch() -> None:
    arms = {path: without_pretraining(recipe.load(ROOT / path)) for path in RECIPES}
    assert [path.stem for path in arms if arms[path] and path.parent.name == "bert"] == BERT_TASKS
    for path, content in arms.items():
        if content is not None:
            check_recipe(content, str(path))


def test_an_interrupted_measurement_continues(yard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = fits.measure_fits(yard, recipe.load(yard), range(2))
    fit_once, runs = fits.fit_once, []

    def interrupt(content: dict, data: dict, folder: Path, seed: int) -> Any:
        runs.append((seed, (folder / str(seed) / "run" / "journal.log").is_file()))
        result = fit_once(content, data, folder, seed)
        if len(runs) == 2:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(fits, "fit_once", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fits.measure_fits(yard, recipe.load(yard), range(2))
    first = read_object(fits.measuring_folder(yard) / "seconds-1.json")["seconds"]
    continued = fits.measure_fits(yard, recipe.load(yard), range(2))
    assert continued.scores == undisturbed.scores
    assert continued.seconds[1] > first > 0
    assert runs == [(0, False), (1, False), (0, True), (1, True)]
    with pytest.raises(KeyboardInterrupt):
        runs.clear()
        fits.measure_fits(yard, recipe.load(yard), range(2))
    fits.measure_fits(yard, recipe.overlay(recipe.load(yard), {"fit.batch": 25}), range(1))
    assert runs[-1] == (0, False), "another recipe continued this one"


def test_a_grid_is_recorded_trial_by_trial(yard: Path) -> None:
    """Check the folds' mean and deviation of each trial, and the fit with the best values."""
    content = yaml.safe_load(yard.read_text())
    space = {"task.optimizer.lr": {"choices": [1e-4, 1e-2]}}
    search = {"sampler": "grid", "space": space}
    content["tune"] = {"folds": 2, "show": "loss", "columns": ["seconds"], "search": search}
    yard.write_text("# Expect: accuracy 0.10 to 0.99 over 1 seed\n" + yaml.safe_dump(content))
    page.main([str(yard)])
    measured = record.read_record(yard)
    assert measured is not None
    slow, fast = measured.trials
    assert (slow["task.optimizer.lr"], fast["task.optimizer.lr"]) == (1e-4, 1e-2)
    assert slow["loss"] > fast["loss"]
    assert {"accuracy", "accuracy_std", "train_accuracy"} <= fast.keys()
    assert 0 < 2 * (slow["seconds"] + fast["seconds"]) < measured.seconds[0], "seconds are processor seconds per fold"
    assert measured.seeds == [0]
    text = page.PAGE.read_text()
    assert f"test accuracy {measured.scores['accuracy'][0]:.3f} (best of 2 trials) |" in text
    assert f"| 0.0001 | {slow['accuracy']:.3g} ± {slow['accuracy_std']:.3g} |" in text


def test_epochs_of_a_grid_go_on_from_each_other(yard: Path) -> None:
    content = yaml.safe_load(yard.read_text())
    content["data"] |= {"labels": 200, "validation": 50}
    space = {"task.optimizer.lr": {"choices": [1e-4, 1e-2]}}
    content["tune"] = {"epochs": 2, "show": "loss", "search": {"sampler": "grid", "space": space}}
    yard.write_text(yaml.safe_dump(content))
    measured = searches.measure_search(yard, recipe.load(yard))
    del content["tune"]
    losses = []
    for rate in (1e-4, 1e-2):
        content["task"]["optimizer"]["lr"] = rate
        yard.write_text(yaml.safe_dump(content))
        losses.append(fits.measure_fits(yard, recipe.load(yard), range(1)))
    assert [trial["task.optimizer.lr"] for trial in measured.trials] == [1e-4, 1e-2]
    assert measured.scores["loss"] == losses[1].scores["loss"]
    assert measured.trials[0]["loss"] > measured.trials[1]["loss"]
    assert {"accuracy", "train_accuracy"} <= measured.trials[0].keys()
    assert "seconds" not in measured.trials[0], "no study asked for them"


def test_seeds_are_added_to_a_record(
    yard: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Add to the first and the last of three seeds, as an interruption may leave them, and compare with all three."""
    commits = iter(["first", "second", "of all"])
    monkeypatch.setattr(fits, "describe_commit", lambda: next(commits))
    first = fits.measure_fits(yard, recipe.load(yard), [2, 0])
    record.write_record(yard, replace(first, cost={}, baselines={"untrained": 0.01}))
    torch.set_num_threads(2)  # as in a process of a user's
    page.main([str(yard)], seeds=3, add=True)
    assert torch.get_num_threads() == 1
    assert capsys.readouterr().out.count(": seed ") == 3, "only one of the three was run"
    added = record.read_record(yard)
    assert added is not None
    assert added.seeds == [0, 1, 2]
    assert added.commits == ["first", "second", "first"]
    assert added.cost.keys() == first.cost.keys() >= {"parameters"}, "old records lack it"
    assert added.baselines == {"untrained": 0.01, "constant": pytest.approx(first.baselines["constant"], rel=1e-5)}
    for name, values in fits.measure_fits(yard, recipe.load(yard), range(3)).scores.items():
        assert added.scores[name] == pytest.approx(values, rel=1e-5)
    assert added.seconds[0] != added.seconds[1] != added.seconds[2]
    assert "| first, second |" in page.PAGE.read_text()
    with pytest.raises(Refusal, match="its record has these 3 seeds already; ask for more with --seeds"):
        page.main([str(yard)], seeds=3, add=True)
    monkeypatch.setattr(fits, "describe_commit", lambda: "later")
    page.main([str(yard)], seeds=1)
    assert "softmax.yaml: 1 of 3 recorded seeds are measured again, the others dropped" in capsys.readouterr().out


def test_the_seconds_of_a_killed_attempt_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "seconds.json"
    program = f"""
import os, pathlib, signal, time
from pipelines.commands.results import fits
fits.SECONDS_BETWEEN_NOTES = 0.01
file = pathlib.Path({str(file)!r})
with fits._spent_seconds(file):
    while not file.exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=100)
    assert killed.returncode == -signal.SIGKILL
    earlier = read_object(file)["seconds"]
    assert earlier > 0
    with fits._spent_seconds(file) as spent:
        pass
    assert spent[0] > earlier


def test_a_gpu_is_measured_by_the_clock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for device, least, most in (("cuda", 0.2, 10.0), ("cpu", 0.0, 0.1)):
        monkeypatch.setattr(fits, "_device", lambda name=device: torch.device(name))
        with fits._spent_seconds(tmp_path / f"{device}.json") as spent:
            time.sleep(0.2)
        assert least <= spent[0] <= most


def test_seeds_of_another_recipe_or_machine_are_not_added(yard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refusal, match="has no record to add seeds to; measure all seeds"):
        page.main([str(yard)], add=True)
    with pytest.raises(Refusal, match="only with --measure"):
        page.main([], add=True)
    measured = fits.measure_fits(yard, recipe.load(yard), [0])
    for change, message in (
        ({"recipe": "other"}, "has changed since its record was made"),
        ({"hardware": "an abacus"}, "was made on an abacus, and this is 1 thread on"),
        ({"scores": measured.scores | {"ease": [1.0]}}, "only one of the two records has these scores: ease; measure"),
        ({"scratch": {"loss": [1.0]}}, "only one of the two records has these scores: those from scratch; measure"),
    ):
        file = record.write_record(yard, replace(measured, **change))
        before = file.read_bytes()
        with pytest.raises(Refusal, match=message):
            page.main([str(yard)], add=True)
        assert file.read_bytes() == before
    yard.write_text(yaml.safe_dump(yaml.safe_load(yard.read_text()) | {"tune": {"folds": 2, "search": {}}}))
    monkeypatch.setattr("pipelines.commands.results.measure.check_recipe", lambda *_: None)
    with pytest.raises(Refusal, match="a search is measured once"):
        page.main([str(yard)], seeds=2, add=True)


def test_a_recipe_without_a_number_of_seeds_is_refused(yard: Path) -> None:
    yard.write_text(yard.read_text().replace("over 2 seeds", "or so"))
    with pytest.raises(Refusal, match="names no number of seeds; name it there, or with --seeds"):
        page.main([str(yard)])
    assert not record.record_path(yard).exists()


def test_a_missing_recipe_and_a_page_without_marks_are_refused(yard: Path) -> None:
    with pytest.raises(Refusal, match="no such recipe"):
        measure_recipe(Path("pipelines/vision/none.yaml"))
    page.PAGE.write_text("no marks\n")
    with pytest.raises(Refusal, match="lacks the line '<!-- trainyard results -->'"):
        page.main([])


@pytest.mark.parametrize("content", ["[]", '{"recipe": 1}', "{"])
def test_a_damaged_record_is_refused(yard: Path, content: str) -> None:
    file = record.record_path(yard)
    file.parent.mkdir(parents=True)
    file.write_text(content)
    with pytest.raises(Refusal, match=r"softmax.json: is damaged .*; measure again: trainyard results --measure"):
        page.main([])
    page.main([str(yard)], seeds=1)
    assert record.read_record(yard) is not None, "measured again"
