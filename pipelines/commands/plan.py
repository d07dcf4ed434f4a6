"""`trainyard plan`: check params and recipes without importing their components, and print what would run."""

from __future__ import annotations

import os
import re
import textwrap
from pathlib import Path
from typing import NamedTuple

from components.errors import TryLater
from components.recipes import recipe
from pipelines.commands.dvc.status import list_changes
from pipelines.stage import dvc_files
from pipelines.stage.check import check_flagship, check_recipe

WIDTH = 118  # of a line: a stage that never ran has dozens of reasons


class Files(NamedTuple):
    """Paths that a stage reads and writes."""

    read: list[str]
    written: list[str]


def main(recipes: list[str]) -> int:
    """Check each recipe, then print the stages that would run and why; return an exit code."""
    for path in recipes:
        content = recipe.load(path)
        check = check_flagship if "pretrain" in content else check_recipe
        check(content, path)
        print(f"{path}: fine ({len(recipe.flatten(content))} values, digest {recipe.digest(content)[:12]})", flush=True)
    if Path(".dvc").is_dir():
        stages: dict[str, Files] = {}
        for path in recipes:
            is_flagship = Path(path).resolve() == Path("params.yaml").resolve()
            stages |= flagship_stages() if is_flagship else recipe_stages(path)
        if stages:
            print("\n".join(describe_changes(stages)))
    return 0


def flagship_stages() -> dict[str, Files]:
    """Return the stages of the root dvc.yaml in order; {} without that file."""
    if not Path(dvc_files.FILE).is_file():
        return {}
    stages = {}
    for name, stage in dvc_files.read_stages(dvc_files.FILE).items():
        outputs = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
        stages[name] = Files(dvc_files.entry_paths(stage.get("deps", [])), dvc_files.entry_paths(outputs))
    return stages


def recipe_stages(path: str) -> dict[str, Files]:
    """Return the stage that runs a recipe, after the stages of the recipes whose models it starts from.

    Keys are targets of `dvc repro`. If there is no stage, print how to run the recipe by itself and return {}.
    """
    file = Path(os.path.relpath(path)).with_name(dvc_files.FILE)
    name = f"fit@{Path(path).stem}"
    if not file.is_file() or name not in dvc_files.stage_names(str(file)):
        print(f"{path}: no stage {name} in a {dvc_files.FILE} beside it; to run it by itself: trainyard fit {path}")
        return {}
    stages: dict[str, Files] = {}
    sources = []
    for value in recipe.flatten(recipe.load(path)["task"]).values():
        source = re.match(r"results/([\w-]+)/([\w-]+)/", str(value))
        if source is not None:
            sources.append(source[0])
            stages |= recipe_stages(f"pipelines/{source[1]}/{source[2]}.yaml")
    family = Path(path).resolve().parent.name
    stages[f"{file}:{name}"] = Files(sources, [f"results/{family}/{Path(path).stem}/"])
    return stages


def describe_changes(stages: dict[str, Files]) -> list[str]:
    """Return one line per reason to run, then a line with the stages that read outputs of those that run.

    Whether the latter run is known only after the former.
    """
    try:
        reasons = list_changes(*stages, patience=0)
    except TryLater:
        return ["what would run is not known: another dvc is at work in this folder"]
    if not reasons:
        return ["would run nothing: all is up to date"]
    changed = {reason.split(": ")[0] for reason in reasons}
    dependents: list[str] = []
    written: set[str] = set()
    for name, files in stages.items():
        if name in changed or written & set(files.read):
            written |= set(files.written)
            if name not in changed:
                dependents.append(name)
    lines = [f"  {textwrap.shorten(reason, WIDTH, placeholder=' ...')}" for reason in reasons]
    if dependents:
        lines.append(f"  and if that changes what they read: {', '.join(dependents)}")
    return ["would run:", *lines]
