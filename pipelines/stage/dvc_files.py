"""What the dvc.yaml files here say, read without dvc (which takes seconds): which stages there are, who makes what."""

from __future__ import annotations

from configparser import ConfigParser
from itertools import product
from pathlib import Path
from typing import Any

from components.errors import Refusal, suggest_name
from components.recipes import recipe

FILE = "dvc.yaml"


def check_targets(targets: list[str]) -> None:
    """Refuses what `dvc repro` would not find: FILE, FILE:STAGE, or a STAGE of dvc.yaml. Other files are left to it."""
    for target in targets:
        file, _, stage = target.rpartition(":")
        if not file and Path(target).is_file():
            continue
        file, files = file or FILE, [FILE, *map(str, sorted(Path().glob(f"pipelines/*/{FILE}")))]
        if not Path(file).is_file():
            raise Refusal(
                f"{target}: no file {file}{suggest_name(file, files)}; a stage is named by FILE:STAGE or STAGE"
            )
        known = stage_names(file)
        if stage not in known:
            listed = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
            raise Refusal(
                f"{target}: {file} has no stage '{stage}'{suggest_name(stage, known + files)}; it has: {listed}"
            )


def check_repository() -> None:
    """Refuses a folder where dvc would not work: another one than the repository's root, or one without git."""
    if not Path(".dvc").is_dir():
        raise Refusal(".dvc: no such folder; run trainyard in the root of the repository (new: git init, dvc init)")
    settings = ConfigParser()
    settings.read([".dvc/config", ".dvc/config.local"])
    alone = settings.getboolean("core", "no_scm", fallback=False)
    if not alone and not any((folder / ".git").exists() for folder in (Path().resolve(), *Path().resolve().parents)):
        raise Refusal(".git: dvc wants a git repository here; git init (or, without one: dvc config core.no_scm true)")


def check_inputs(stage: str) -> None:
    """Refuses a stage of dvc.yaml one of whose inputs is not there, though an earlier stage makes it."""
    stages = read_stages(FILE) if Path(FILE).is_file() else {}
    makers = {out: name for name, other in stages.items() for out in entry_paths(other.get("outs", []))}
    for path in entry_paths(stages.get(stage, {}).get("deps", [])):
        if path in makers and not Path(path).exists():
            raise Refusal(f"{stage}: {path} is not there; first run: trainyard {makers[path]} (or all: trainyard run)")


def read_stages(file: str) -> dict[str, Any]:
    """The stages of a dvc.yaml, as they are written there."""
    stages = recipe.load(file).get("stages")
    if not isinstance(stages, dict) or not all(isinstance(stage, dict) for stage in stages.values()):
        raise Refusal(f"{file}: holds no mapping 'stages' of stages; see dvc.yaml of the repository")
    return stages


def stage_names(file: str) -> list[str]:
    """What `dvc repro` takes as a stage of `file`: `fit@lenet` and its like, and `fit` for all of these."""
    found = []
    for name, stage in read_stages(file).items():
        each = stage.get("foreach", [])
        parts = [map(str, axis) for axis in stage.get("matrix", {}).values()]
        found += [f"{name}@{key}" for key in (["-".join(key) for key in product(*parts)] if parts else each)]
        found.append(name)
    return found


def entry_paths(entries: list[str | dict[str, Any]]) -> list[str]:
    """Of outs or deps, each a path or a path with its settings."""
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]
