"""`trainyard plan`: check params and recipes, and print what would run.

Recipes are checked without importing their components; then their models are built, so that what cannot work is refused
before anything runs. The flagship's model takes the shapes of both data sets, and predicts two black pictures.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from components.errors import Refusal, TryLater, first_line
from components.recipes import recipe
from components.storage.section import build_dataset
from components.tracking import probe, server
from pipelines import flagship
from pipelines.commands.dvc.status import list_changes, shorten_change
from pipelines.commands.forecast import describe_forecast
from pipelines.commands.model_check import check_models
from pipelines.stage import dvc_files, own_stages
from pipelines.stage.bill import settings_digest
from pipelines.stage.check import check_flagship, check_recipe


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
        if "pretrain" in content:
            check_model(content)
        else:
            check_models(content, path)
        missing = own_stages.describe_missing(path)
        if missing is not None:
            print(missing)
        print(f"{path}: fine ({len(recipe.flatten(content))} values, digest {recipe.digest(content)[:12]})", flush=True)
    probe.refuse_lasting_faults(server.tracking_uri())
    if Path(".dvc").is_dir():
        stages: dict[str, Files] = {}
        for path in recipes:
            is_flagship = Path(path).resolve() == Path("params.yaml").resolve()
            stages |= flagship_stages() if is_flagship else recipe_stages(path)
        if stages:
            print("\n".join(describe_changes(stages)))
    return 0


def bill_name(stage: str) -> str:
    """Return the name that a stage's bills have: `vision/lenet` for pipelines/vision/dvc.yaml:fit@lenet."""
    file, _, system = stage.rpartition(":fit@")
    return f"{Path(file).resolve().parent.name}/{system}" if file else stage


def read_settings(stage: str) -> str:
    """Return the digest of the values with which a stage would run."""
    file, _, system = stage.rpartition(":fit@")
    return settings_digest(recipe.load(Path(file).with_name(f"{system}.yaml") if file else "params.yaml"))


def check_model(params: dict[str, Any]) -> None:
    """Build the model of checked params for each data set and let it predict; refuse one that can't take its shapes."""
    import numpy as np
    import torch

    from components.training.task import Spec, Task

    sections = {"source": flagship.pretrain_section(params), "target": flagship.arm_section(params, "scratch")}
    for role, section in sections.items():
        dataset = build_dataset(params["data"][role])
        columns = {name: column.shape for name, column in dataset.columns.items()}
        channels = columns["image"][-1] or 1
        spec = Spec(columns, tuple(dataset.classes), {"mean": [0.5] * channels, "std": [0.25] * channels})
        black = torch.from_numpy(np.zeros((2, *columns["image"]), np.uint8))
        task: Task = recipe.build(section["task"], Task)
        try:
            state = task.setup(spec)
            for module in state.modules.values():
                module.eval()
            with torch.no_grad():
                task.predict(state, {"image": black, "row": torch.arange(2)})
        except Refusal:
            raise
        except Exception as error:  # a model's own code raises what it likes
            size = " x ".join(map(str, columns["image"]))
            raise Refusal(
                f"model: {params['model']['use']} can't take data.{role}, pictures of {size} ({first_line(error)});"
                f" change data.{role}.size or the model"
            ) from None


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
    names = [name for name in stages if name in changed or name in dependents]
    settings = {bill_name(name): read_settings(name) for name in names}
    lines = [f"  {shorten_change(reason)}" for reason in reasons]
    if dependents:
        lines.append(f"  and if that changes what they read: {', '.join(dependents)}")
    return ["would run:", *lines, *describe_forecast(list(settings), settings)]
