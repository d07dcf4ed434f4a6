"""Check every recipe: its header, its values, and the stage that runs it with all code it depends on."""

from __future__ import annotations

import py_compile
import re
from functools import cache, reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.recipes import recipe
from pipelines.stage import dvc_files
from pipelines.stage.check import check_flagship, check_recipe
from pipelines.stage.code_files import NEUTRAL, SEARCH, modules, named_modules, reachable_modules

ROOT = Path(__file__).parent.parent
OWN = ROOT / "pipelines" / "own"  # a user's own recipes
FAMILIES = sorted(path for path in ROOT.glob("pipelines/*/dvc.yaml") if path.parent != OWN)
RECIPES = sorted(path for path in ROOT.glob("pipelines/*/*.yaml") if path.name != "dvc.yaml" and path.parent != OWN)
HEADER = ("# What:", "# Run:", "# Expect:", "# Time:")
each_recipe = pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")


def test_every_recipe_is_found() -> None:
    assert len(RECIPES) == 161
    assert {path.parent for path in FAMILIES} == {path.parent for path in RECIPES}


# What a header's last line may be: the duration with its machine, or that it was never measured.
TIME = re.compile(r"(?=.*(?:second|minute|\d s\b|hour|not measured)).*(?:core|GPU|H\d00|not measured).*")


def header_faults(lines: list[str], family: str, name: str) -> list[str]:
    """Return what is wrong with the first four lines of a recipe, each of which is compared as a whole."""
    faults = []
    texts = dict(
        zip(HEADER, [line.removeprefix(start) for line, start in zip(lines, HEADER, strict=False)], strict=False)
    )
    for number, start in enumerate(HEADER):
        column = f"{start} " if start == "# Expect:" else f"{start:<10}"
        if len(lines) <= number or not re.fullmatch(rf"{column}\S.*\S", lines[number]):
            faults.append(f"line {number + 1} must be '{column}' and a text")
    command = re.escape(f"dvc repro pipelines/{family}/dvc.yaml:fit@{name}")
    if not re.fullmatch(rf" +{command}(, with .+ in data/raw/.+)?", texts.get("# Run:", "")):
        faults.append("line 2 must be the command that runs this recipe")
    if not re.search(r"\d|no figure|(not|to be) measured", texts.get("# Expect:", "")):
        faults.append("line 3 must state a figure, or that there is none")
    if not TIME.fullmatch(texts.get("# Time:", "")):
        faults.append("line 4 must state a duration and the machine")
    return faults


@each_recipe
def test_the_header_states_purpose_command_result_and_time(path: Path) -> None:
    assert header_faults(path.read_text().splitlines(), path.parent.name, path.stem) == []


GOOD = (
    "# What:   LeNet on digits",
    "# Run:    dvc repro pipelines/vision/dvc.yaml:fit@lenet",
    "# Expect: accuracy 0.97 to 0.98 over 5 seeds",
    "# Time:   20 s on 2 CPU cores",
)


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (0, "# What:   "),
        (1, "# Run:    dvc repro pipelines/vision/dvc.yaml:fit@lenet-batch-norm"),
        (1, "# Run:    see pipelines/vision/dvc.yaml:fit@lenet"),
        (1, "# Run:    dvc repro pipelines/language/dvc.yaml:fit@lenet"),
        (2, "# Expect: something good"),
        (2, "# Expects: accuracy 0.97"),
        (3, "# Time:   a while"),
        (3, "# Time:   20 s"),
    ],
)
def test_a_fault_in_a_header_is_noticed(number: int, line: str) -> None:
    assert header_faults(list(GOOD), "vision", "lenet") == []
    assert header_faults([*GOOD[:number], line, *GOOD[number + 1 :]], "vision", "lenet")
    assert header_faults([*GOOD[:number], *GOOD[number + 1 :]], "vision", "lenet")


@each_recipe
def test_recipe_values_pass_the_check(path: Path) -> None:
    check_recipe(recipe.load(path), str(path.relative_to(ROOT)))


def test_flagship_values_pass_the_check() -> None:
    check_flagship(recipe.load(ROOT / "params.yaml"))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda path: path.parent.name)
def test_the_family_runs_exactly_its_recipes(family: Path) -> None:
    """Read the family's dvc.yaml; a single file that DVC cannot read breaks every `dvc repro` in the repository."""
    stage = yaml.safe_load(family.read_text())["stages"]["fit"]
    names = stage["foreach"] if "foreach" in stage else stage["matrix"]["system"]
    assert sorted(names) == sorted(p.stem for p in RECIPES if p.parent == family.parent)


@each_recipe
def test_results_of_other_recipes_are_dependencies(path: Path) -> None:
    values = recipe.flatten(recipe.load(path)["task"]).values()
    references = {value for value in values if str(value).startswith("results/")}
    stage = stages()[f"pipelines/{path.parent.name}/dvc.yaml:fit@{path.stem}"]
    assert references <= {str(dependency) for dependency in stage.deps}


@each_recipe
def test_the_table_of_a_search_is_an_output(path: Path) -> None:
    """Check that DVC keeps tables/search.csv, the trials' figures, and tables/trials.csv, their curves."""
    stage = stages()[f"pipelines/{path.parent.name}/dvc.yaml:fit@{path.stem}"]
    outputs = {str(output) for output in stage.outs}
    assert f"results/{path.parent.name}/{path.stem}/tables" in outputs or "tune" not in recipe.load(path)


@cache
def dvc_repository() -> Any:
    """Return this repository as DVC's."""
    from dvc.repo import Repo

    return Repo(ROOT)


@cache
def stages() -> dict[str, Any]:
    """Return {address: stage} as DVC reads them."""
    own = f"{OWN.relative_to(ROOT)}/"
    return {stage.addressing: stage for stage in dvc_repository().index.stages if not stage.addressing.startswith(own)}


def test_dvc_reads_every_file() -> None:
    names = set(stages())
    flagship = {"prepare", "augment", "pretrain", "tune", "finetune", "evaluate"}
    assert flagship <= names
    assert len(names) == len(flagship) + len(RECIPES)


@pytest.mark.parametrize("file", [ROOT / "dvc.yaml", *FAMILIES], ids=lambda path: path.parent.name)
def test_stage_names_are_those_of_dvc(file: Path) -> None:
    start = "" if file.parent == ROOT else f"{file.relative_to(ROOT)}:"
    names = {address.removeprefix(start) for address in stages() if address.rpartition(":")[0] == start.rstrip(":")}
    assert names == set(dvc_files.stage_names(str(file))) - {"fit"}


# ------------------------------------------------------------------------------------------------ code dependencies

# Stage -> modules that it imports but that run in an earlier stage, whose outputs are dependencies.
EARLIER_STAGES: dict[str, set[str]] = {
    "pretrain": {"pipelines.workers.preparation", "pipelines.workers.augmentation"},
    "tune": {"pipelines.workers.preparation", "pipelines.workers.augmentation"},
    "finetune": {"pipelines.workers.preparation", "pipelines.workers.augmentation"},
}
# Sections that `evaluate` builds from an exported model, although its parameters do not name them.
EXPORTED_SECTIONS = ("model", "finetune.task")
MODULES = modules()


def missing_dependencies(stage: Any, modules: set[str]) -> list[str]:
    """Return the files of `modules` that are neither a dependency of a stage nor in a folder that is one."""
    dependencies = [str(dependency) for dependency in stage.deps]
    files = [str(MODULES[module].relative_to(ROOT)) for module in modules]
    return sorted(f for f in files if not any(f == path or f.startswith(f"{path}/") for path in dependencies))


@pytest.mark.parametrize("name", ["prepare", "augment", "pretrain", "tune", "finetune", "evaluate"])
def test_code_of_the_flagships_stages_is_a_dependency(name: str) -> None:
    params = recipe.load(ROOT / "params.yaml")
    stage = stages()[name]
    keys = [key for dependency in stage.deps for key in getattr(dependency, "params", ())]
    if name == "evaluate":
        keys += EXPORTED_SECTIONS
    sections = [reduce(getitem, key.split("."), params) for key in keys]
    modules = reachable_modules({f"pipelines.{name}", *named_modules(sections)}, EARLIER_STAGES.get(name, set()))
    missing = missing_dependencies(stage, modules)
    assert not missing, f"add to deps of {name} in dvc.yaml, or to NEUTRAL with a reason: {', '.join(missing)}"


@each_recipe
def test_code_of_a_recipe_is_a_dependency(path: Path) -> None:
    content = recipe.load(path)
    address = f"pipelines/{path.parent.name}/dvc.yaml:fit@{path.stem}"
    modules = reachable_modules({"pipelines.fit", *named_modules(content)}, () if "tune" in content else SEARCH)
    missing = missing_dependencies(stages()[address], modules)
    assert not missing, f"add to deps of {address}, or to NEUTRAL with a reason: {', '.join(missing)}"


def test_bytecode_is_no_dependency() -> None:
    """It differs between checkouts of the same code, so that no machine would know the results of another."""
    code = {
        (dependency.fs, dependency.fs_path)
        for stage in stages().values()
        for dependency in stage.deps
        if dependency.def_path.startswith(("components/", "pipelines/")) and dependency.fs.isdir(dependency.fs_path)
    }
    folder = min(folder for _, folder in code)
    py_compile.compile(str(next(Path(folder).rglob("*.py"))))  # this process may be told to write no bytecode
    assert any(list(Path(folder).rglob("*.pyc")) for _, folder in code)
    for fs, folder in code:
        files = set(dvc_repository().dvcignore.find(fs, folder))
        assert files == {str(path) for path in Path(folder).rglob("*.py")}


def test_neutral_modules_exist() -> None:
    folders = {module.rpartition(".")[0] for module in MODULES}
    assert MODULES.keys() | folders >= NEUTRAL.keys() | SEARCH
