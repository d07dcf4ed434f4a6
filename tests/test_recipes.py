"""Every recipe is whole: a header that says what it is, values that are checked, a stage that runs it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache, reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.recipes import recipe
from pipelines.stage import dvc_files
from pipelines.stage.check import check_flagship, check_recipe
from tests.test_house import FILES, imports, name_of

ROOT = Path(__file__).parent.parent
FAMILIES = sorted(ROOT.glob("pipelines/*/dvc.yaml"))
RECIPES = sorted(path for path in ROOT.glob("pipelines/*/*.yaml") if path.name != "dvc.yaml")
HEADER = ("# What:", "# Run:", "# Expect:", "# Time:")
each = pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")


def test_all_are_found() -> None:
    assert len(RECIPES) == 65
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


@pytest.mark.parametrize("file", [ROOT / "dvc.yaml", *FAMILIES], ids=lambda path: path.parent.name)
def test_stages_are_named_as_dvc_names_them(file: Path) -> None:
    start = "" if file.parent == ROOT else f"{file.relative_to(ROOT)}:"
    theirs = {address.removeprefix(start) for address in stages() if address.rpartition(":")[0] == start.rstrip(":")}
    assert theirs == set(dvc_files.stage_names(str(file))) - {"fit"}


# ------------------------------------------------------------------------------------------------ code dependencies

# What can't change what a stage writes: no stage runs again for these, nor for what they alone import.
NEUTRAL = {
    *("components.cluster", "components.network"),  # where, and how fast
    *("components.errors", "components.recipes.ranges", "pipelines.stage.check"),  # what is refused
    *("components.drawings.figures", "components.drawings"),  # how a picture looks, not what it shows
    *("components.runs.journal", "components.files"),  # write down what they are given
    "components.recipes.recipe",  # passes on values, which DVC compares itself
    "components.recipes.allowed",  # finds a user's own code, which is the user's to name in `deps`
    "pipelines.stage.outputs",  # reads back what is an output of a stage
    "pipelines.stage.context",  # what stands around the work: locks, seconds, tracking, tables
    *(
        "components.verdicts.diagnosis",
        "pipelines.stage.diagnoses",
    ),  # what is said of a run, which is no output of its stage
    "pipelines.reports.report",  # a view, which `trainyard report` writes at any time
}
# At work where a recipe has a section `tune`.
SEARCH = {
    "pipelines.workers.rungs",
    "components.search",
    "pipelines.stage.search",
}
# Imported by a stage, but at work in an earlier one, whose outputs are dependencies.
ELSEWHERE: dict[str, set[str]] = {
    "pretrain": {"pipelines.workers.preparation", "pipelines.workers.augmentation"},
    "tune": {"pipelines.workers.preparation", "pipelines.workers.augmentation"},
    "finetune": {"pipelines.workers.preparation", "pipelines.workers.augmentation"},
}
EXPORTED = ("model", "finetune.task")  # what `evaluate` builds again, though its parameters do not name it
MODULES = {name_of(file): file for file in FILES if file.name != "__init__.py"}


@cache
def imported(module: str) -> frozenset[str]:
    """Our own modules that `module` imports, or names by a dotted path (as `spread` is given them)."""
    names = [name for name, _ in imports(MODULES[module])]
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            names += re.findall(r"^(pipelines\.[\w.]+\.)\w*$", node.value)
    return frozenset(MODULES.keys() & {part for name in names for part in (name, name.rpartition(".")[0])})


def used(section: Any) -> Iterator[str]:
    """The modules of the callables that a section of a recipe names by `use`."""
    if isinstance(section, dict) and isinstance(section.get("use"), str):
        yield f"components.{section['use'].rpartition('.')[0]}"
    for value in section.values() if isinstance(section, dict) else section if isinstance(section, list) else ():
        yield from used(value)


def needed(begin: set[str], elsewhere: set[str]) -> set[str]:
    """The modules that can change the result of a stage which begins with `begin`: what these import, all the way."""
    apart = NEUTRAL | elsewhere
    found: set[str] = set()
    while begin:
        found |= begin
        begin = {m for module in begin for m in imported(module) if not {m, m.rpartition(".")[0]} & apart} - found
    return found


def lacking(stage: Any, modules: set[str]) -> list[str]:
    """The files of `modules` that are no dependency of a stage, nor in a folder that is one."""
    named = [str(dependency) for dependency in stage.deps]
    files = [str(MODULES[module].relative_to(ROOT)) for module in modules]
    return sorted(file for file in files if not any(file == at or file.startswith(f"{at}/") for at in named))


@pytest.mark.parametrize("name", ["prepare", "augment", "pretrain", "tune", "finetune", "evaluate"])
def test_code_that_a_stage_of_the_flagship_runs_is_a_dependency(name: str) -> None:
    params, stage = recipe.load(ROOT / "params.yaml"), stages()[name]
    keys = [key for dependency in stage.deps for key in getattr(dependency, "params", ())]
    sections = [reduce(getitem, key.split("."), params) for key in (*keys, *(EXPORTED if name == "evaluate" else ()))]
    modules = needed({f"pipelines.{name}", *used(sections)}, ELSEWHERE.get(name, set()))
    missing = lacking(stage, modules)
    assert not missing, f"add to deps of {name} in dvc.yaml, or to NEUTRAL with a reason: {', '.join(missing)}"


@each
def test_code_that_runs_a_recipe_is_a_dependency(path: Path) -> None:
    content, address = recipe.load(path), f"pipelines/{path.parent.name}/dvc.yaml:fit@{path.stem}"
    modules = needed({"pipelines.fit", *used(content)}, set() if "tune" in content else SEARCH)
    missing = lacking(stages()[address], modules)
    assert not missing, f"add to deps of {address}, or to NEUTRAL with a reason: {', '.join(missing)}"


def test_what_is_neutral_is_there() -> None:
    folders = {module.rpartition(".")[0] for module in MODULES}
    assert MODULES.keys() | folders >= NEUTRAL | SEARCH
