"""The stages of a user's own recipes name exactly the code that these use."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.recipes import recipe
from pipelines.stage import own_stages
from pipelines.stage.code_files import NEUTRAL, list_code_files

ROOT = Path(__file__).parents[3]
TEXTS = recipe.load(ROOT / "pipelines/text/spam-words.yaml")
BOXES = recipe.load(ROOT / "pipelines/detection/ssd.yaml")
LOADED = """\
import json, sys
from components.recipes import recipe
from components.storage.dataset import Dataset
from components.training.task import Task
import pipelines.workers.training
content = json.load(sys.stdin)
recipe.build(content["data"], Dataset)
recipe.build(content["task"], Task)
print(*[name for name in sys.modules if name.startswith(("components.", "pipelines."))])
"""


@pytest.mark.parametrize("content", [TEXTS, BOXES], ids=["texts", "boxes"])
def test_all_that_a_fit_loads_is_listed(content: dict[str, Any]) -> None:
    """Compare with what a fresh process has loaded once data and task are built."""
    command = [sys.executable, "-c", LOADED]
    output = subprocess.run(command, input=json.dumps(content), capture_output=True, text=True, check=True, cwd=ROOT)
    files = {f"{name.replace('.', '/')}.py" for name in output.stdout.split() if not neutral(name)}
    loaded = {file for file in files if (ROOT / file).is_file()}
    assert len(loaded) > 30
    assert loaded <= set(list_code_files(content))


def neutral(name: str) -> bool:
    """Return whether a module cannot change a result; neutral ones alone import those of `behind`."""
    behind = ("components.safe_text", "components.process_guard")
    return any(name == other or name.startswith(f"{other}.") for other in (*NEUTRAL, *behind))


def test_a_stage_names_the_files_of_its_own_recipe_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own_stages.OWN.mkdir(parents=True)
    for name, content in (("mails", TEXTS), ("owls", BOXES)):
        (own_stages.OWN / f"{name}.yaml").write_text(yaml.safe_dump(content))
        places = {**own_stages.read_places(), name: f"data/raw/{name}"}
        own_stages.STAGES.write_text(own_stages.format_stages(places, {}))
    stage = recipe.load(own_stages.STAGES)["stages"]["fit"]
    mails, owls = stage["foreach"]["mails"], stage["foreach"]["owls"]
    assert (mails["data"], owls["data"]) == ("data/raw/mails", "data/raw/owls")
    assert set(mails["code"]) == set(own_stages.code_of(TEXTS))
    assert "components/models/ssd.py" in owls["code"]
    assert not [file for file in mails["code"] if "picture" in file or "models/ssd" in file]
    folders = ("components/data", "components/tasks", "components/models", "components/losses")
    assert not {*stage["do"]["deps"], *mails["code"], *owls["code"]} & set(folders)
    assert own_stages.describe_missing(own_stages.OWN / "mails.yaml") is None
    changed = recipe.overlay(TEXTS, {"task.model": {"use": "models.text_cnn.TextCNN"}})
    (own_stages.OWN / "mails.yaml").write_text(yaml.safe_dump(changed))
    assert "mails uses components/models/text_cnn.py, which its `code` does not name" in str(
        own_stages.describe_missing(own_stages.OWN / "mails.yaml")
    )


def test_dvc_runs_a_stage_again_for_its_own_code_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let DVC itself say what has changed after a new data set, and after a change of one that the recipe uses."""
    from dvc.repo import Repo

    monkeypatch.chdir(tmp_path)
    own_stages.OWN.mkdir(parents=True)
    recipes = {"mails": TEXTS, "owls": BOXES}
    for name, content in recipes.items():
        (own_stages.OWN / f"{name}.yaml").write_text(yaml.safe_dump(content))
        (tmp_path / name).write_text("data")
    stages = yaml.safe_load(own_stages.format_stages({name: name for name in recipes}, {}))
    only_deps = {"wdir": "../..", "cmd": "echo done", "deps": stages["stages"]["fit"]["do"]["deps"]}
    stages["stages"]["fit"]["do"] = only_deps
    own_stages.STAGES.write_text(yaml.safe_dump(stages))
    for file in {file for content in recipes.values() for file in list_code_files(content)}:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("x")
    repo = Repo.init(no_scm=True)
    repo.reproduce("pipelines/own/dvc.yaml:fit")

    def changed_dependencies() -> set[str]:
        """Return the stages with changed dependencies."""
        changes = repo.status(targets=["pipelines/own/dvc.yaml:fit"])
        return {name for name, kinds in changes.items() if any("changed deps" in kind for kind in kinds)}

    assert not changed_dependencies()
    (tmp_path / "components" / "data" / "new.py").write_text("x")
    (tmp_path / "components" / "tasks" / "new.py").write_text("x")
    assert not changed_dependencies()
    (tmp_path / "components" / "data" / "text_table.py").write_text("y")
    assert {name.rpartition("@")[2] for name in changed_dependencies()} == {"mails"}
