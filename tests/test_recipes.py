"""Every recipe is whole: a header that says what it is, values that are checked, a stage that runs it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import recipe
from pipelines.check import check_flagship, check_recipe

ROOT = Path(__file__).parent.parent
FAMILIES = sorted(ROOT.glob("pipelines/*/dvc.yaml"))
RECIPES = sorted(path for path in ROOT.glob("pipelines/*/*.yaml") if path.name != "dvc.yaml")
HEADER = ("# What:", "# Run:", "# Expect:", "# Time:")
each = pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")


def test_all_are_found() -> None:
    assert len(RECIPES) == 56
    assert {path.parent for path in FAMILIES} == {path.parent for path in RECIPES}


@each
def test_the_header_says_what_how_and_how_well(path: Path) -> None:
    lines = path.read_text().splitlines()
    for number, start in enumerate(HEADER):
        assert lines[number].startswith(start), f"line {number + 1} of {path.name} must begin with '{start}'"
        assert len(lines[number]) > len(start) + 5
    assert f"pipelines/{path.parent.name}/dvc.yaml:fit@{path.stem}" in lines[1]


@each
def test_its_values_pass_the_check(path: Path) -> None:
    check_recipe(recipe.load(path), str(path.relative_to(ROOT)))


def test_the_flagship_passes_the_check() -> None:
    check_flagship(recipe.load(ROOT / "params.yaml"))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda path: path.parent.name)
def test_the_family_runs_each_of_its_recipes_and_no_other(family: Path) -> None:
    """One file that DVC can't read breaks every `dvc repro` of the repository."""
    stage = yaml.safe_load(family.read_text())["stages"]["fit"]
    names = stage["foreach"] if "foreach" in stage else stage["matrix"]["system"]
    assert sorted(names) == sorted(p.stem for p in RECIPES if p.parent == family.parent)


@each
def test_what_it_takes_from_another_recipe_is_a_dependency(path: Path) -> None:
    taken = [value for value in recipe.flatten(recipe.load(path)["task"]).values() if str(value).startswith("results/")]
    stage = stages()[f"pipelines/{path.parent.name}/dvc.yaml:fit@{path.stem}"]
    assert set(taken) <= {str(dependency) for dependency in stage.deps}


@cache
def stages() -> dict[str, Any]:
    """Address -> stage, as DVC reads them."""
    from dvc.repo import Repo

    return {stage.addressing: stage for stage in Repo(ROOT).index.stages}


def test_dvc_reads_every_file() -> None:
    names = set(stages())
    flagship = {"prepare", "augment", "pretrain", "tune", "finetune", "evaluate"}
    assert flagship <= names
    assert len(names) == len(flagship) + len(RECIPES)
