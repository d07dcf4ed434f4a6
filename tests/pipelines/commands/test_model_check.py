"""`trainyard plan` builds the models of recipes, and refuses those that do not fit the data before anything runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.errors import Refusal
from components.recipes import recipe
from components.storage.store import Store
from components.training.peers import Peers
from components.training.task import Spec
from pipelines.commands import model_check
from pipelines.door import main
from pipelines.fit import locate_prepared
from pipelines.workers.augmentation import write_statistics
from pipelines.workers.preparation import write_section

ROOT = Path(__file__).parents[3]
LENET = {
    "data": {"use": "data.digits.Digits", "size": 8},
    "task": {"use": "tasks.classification.Classification", "model": {"use": "models.lenet.LeNet"}},
    "fit": {"epochs": 1, "batch": 50},
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(content: dict[str, Any], capsys: pytest.CaptureFixture) -> str:
    """Return the error of `plan`, which is empty if the recipe is fine."""
    Path("recipe.yaml").write_text(yaml.safe_dump(content))
    code = main(["plan", "recipe.yaml"])
    error = capsys.readouterr().err
    assert (code, error.count("\n")) in ((0, 0), (2, 1)), error
    return error


def test_a_model_too_large_for_the_pictures_is_refused(capsys: pytest.CaptureFixture) -> None:
    message = "recipe.yaml: task.model: LeNet needs sides of at least 12, not (8, 8); set task.resize"
    assert message in plan(LENET, capsys)
    assert plan(recipe.overlay(LENET, {"data.size": 16}), capsys) == ""


def test_every_value_of_a_search_is_built(capsys: pytest.CaptureFixture) -> None:
    search = {"sampler": "grid", "space": {"task.resize": {"choices": [28, 14, 10]}}}
    content = LENET | {"task": LENET["task"] | {"resize": 28}, "tune": {"folds": 2, "search": search}}
    assert "needs sides of at least 12, not (10, 10)" in plan(content, capsys)
    search["space"]["task.resize"]["choices"].pop()
    # what a search replaces need not fit
    content["task"]["resize"] = 8
    assert plan(content, capsys) == ""


def test_data_that_are_read_for_their_vocabulary_are_checked_once_they_are_prepared(
    capsys: pytest.CaptureFixture,
) -> None:
    Path("data/raw").mkdir(parents=True)
    rows = [f"{word} {word} number {number},{word}" for number in range(20) for word in ("spam", "ham")]
    Path("data/raw/mails.csv").write_text("\n".join(["text,label", *rows]))
    data = {"use": "data.text_table.TextTable", "file": "data/raw/mails.csv", "text": "text", "label": "label"}
    model = {"use": "models.text_transformer.TextTransformer", "width": 30, "heads": 4}
    task = {"use": "tasks.text_classification.TextClassification", "model": model}
    content = {"data": data, "task": task, "fit": {"epochs": 1, "batch": 8}}
    assert plan(content, capsys) == ""
    folder = locate_prepared(data)[0]
    write_section(Peers(), data, folder / "prepared")
    write_statistics(Peers(), Store(folder / "prepared"), folder / "augmented")
    assert "recipe.yaml: task.model" in plan(content, capsys)
    model["width"] = 32
    assert plan(content, capsys) == ""


def test_a_start_of_another_recipe_is_awaited_and_one_of_the_user_must_be_there(capsys: pytest.CaptureFixture) -> None:
    content = recipe.overlay(LENET, {"data.size": 16})
    content["task"]["start"] = "results/mine/other/model"
    Path("results/mine/other/model").mkdir(parents=True)
    assert plan(content, capsys) == ""
    content["task"]["start"] = "data/raw/mine/body.safetensors"
    message = "recipe.yaml: task.start: data/raw/mine/body.safetensors does not exist; put the file there"
    assert message in plan(content, capsys)


def test_no_recipe_is_refused_for_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that most recipes are built, and that those alone are refused whose files the user has to provide."""
    monkeypatch.chdir(ROOT)
    built: list[dict[str, Any]] = []
    set_up = model_check._set_up

    def count(section: dict[str, Any], spec: Spec) -> None:
        built.append(section)
        set_up(section, spec)

    monkeypatch.setattr(model_check, "_set_up", count)
    files = sorted(file for file in (ROOT / "pipelines").glob("*/*.yaml") if file.name != "dvc.yaml")
    assert len(files) == 161
    refusals = []
    for file in files:
        try:
            model_check.check_models(recipe.load(file), file.stem)
        except Refusal as refusal:
            refusals.append(str(refusal))
    lacking = re.compile(r"[\w-]+: (task.start: data/raw/\w+ holds no BERT|data: data/raw/\w+ does not exist)")
    assert [refusal for refusal in refusals if not lacking.match(refusal)] == []
    assert len(built) >= 90
