"""`trainyard plan`: checks params and recipes without importing what they name, and says what `dvc repro` would run."""

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
    """Of a stage: paths."""

    read: list[str]
    written: list[str]


def main(recipes: list[str]) -> int:
    for path in recipes:
        content = recipe.load(path)
        (check_flagship if "pretrain" in content else check_recipe)(content, path)
        print(f"{path}: fine ({len(recipe.flatten(content))} values, digest {recipe.digest(content)[:12]})", flush=True)
    if Path(".dvc").is_dir():
        stages: dict[str, Files] = {}
        for path in recipes:
            stages |= (
                flagship_stages() if Path(path).resolve() == Path("params.yaml").resolve() else recipe_stages(path)
            )
        for line in describe_changes(stages) if stages else ():
            print(line)
    return 0


def flagship_stages() -> dict[str, Files]:
    """Its stages in order."""
    made = ("outs", "metrics", "plots")
    return {
        name: Files(
            dvc_files.entry_paths(stage.get("deps", [])),
            [p for kind in made for p in dvc_files.entry_paths(stage.get(kind, []))],
        )
        for name, stage in (dvc_files.read_stages(dvc_files.FILE) if Path(dvc_files.FILE).is_file() else {}).items()
    }


def recipe_stages(path: str) -> dict[str, Files]:
    """The stage that runs the recipe, as `dvc repro` takes it, behind those of the recipes whose models it reads."""
    file, name = Path(os.path.relpath(path)).with_name(dvc_files.FILE), f"fit@{Path(path).stem}"
    if not file.is_file() or name not in dvc_files.stage_names(str(file)):
        print(f"{path}: no stage {name} in a {dvc_files.FILE} beside it; by itself it runs by: trainyard fit {path}")
        return {}
    texts = [str(value) for value in recipe.flatten(recipe.load(path)["task"]).values()]
    others = [found for text in texts if (found := re.match(r"results/([\w-]+)/([\w-]+)/", text))]
    before = {k: v for found in others for k, v in recipe_stages(f"pipelines/{found[1]}/{found[2]}.yaml").items()}
    own = Files([found[0] for found in others], [f"results/{Path(path).resolve().parent.name}/{Path(path).stem}/"])
    return before | {f"{file}:{name}": own}


def describe_changes(stages: dict[str, Files]) -> list[str]:
    """A line a reason; then the stages that read what others write: whether they run, is known only after these."""
    try:
        reasons = list_changes(*stages, patience=0)
    except TryLater:
        return ["what would run is not known: another dvc is at work in this folder"]
    changed = {reason.split(": ")[0] for reason in reasons}
    behind: list[str] = []
    written: set[str] = set()
    for name, files in stages.items():
        if name in changed or written & set(files.read):
            written |= set(files.written)
            behind += [name] if name not in changed else []
    lines = [f"  {textwrap.shorten(reason, WIDTH, placeholder=' ...')}" for reason in reasons]
    more = [f"  and if that changes what they read: {', '.join(behind)}"] if behind else []
    return ["would run:", *lines, *more] if reasons else ["would run nothing: all is up to date"]
