"""Read dvc.yaml files without dvc, which takes seconds to import: which stages there are, and which one writes what."""

from __future__ import annotations

from configparser import ConfigParser
from itertools import product
from pathlib import Path
from typing import Any

from components.errors import Refusal, suggest_name
from components.recipes import recipe

FILE = "dvc.yaml"
MAX_NAMES = 12  # most stage names in an error line


def check_targets(targets: list[str]) -> None:
    """Refuse targets that `dvc repro` would not find: FILE, FILE:STAGE, or a STAGE of dvc.yaml.

    Existing files are not checked.
    """
    for target in targets:
        file, _, stage = target.rpartition(":")
        if not file and Path(target).is_file():
            continue
        file = file or FILE
        files = [FILE, *map(str, sorted(Path().glob(f"pipelines/*/{FILE}")))]
        if not Path(file).is_file():
            similar = suggest_name(file, files)
            raise Refusal(f"{target}: no file {file}{similar}; a stage is named by FILE:STAGE or STAGE")
        names = stage_names(file)
        if stage not in names:
            similar = suggest_name(stage, names + files)
            listed = ", ".join(names[:MAX_NAMES]) + (", ..." if len(names) > MAX_NAMES else "")
            raise Refusal(f"{target}: {file} has no stage '{stage}'{similar}; it has: {listed}")


def check_repository() -> None:
    """Refuse a folder in which dvc would not work: one that is not the repository's root, or one without git."""
    if not Path(".dvc").is_dir():
        raise Refusal(".dvc: no such folder; run trainyard in the root of the repository (new: git init, dvc init)")
    settings = ConfigParser()
    settings.read([".dvc/config", ".dvc/config.local"])
    if settings.getboolean("core", "no_scm", fallback=False):
        return
    here = Path().resolve()
    if not any((folder / ".git").exists() for folder in (here, *here.parents)):
        raise Refusal(".git: dvc needs a git repository here; git init (or, without one: dvc config core.no_scm true)")


def check_inputs(stage: str) -> None:
    """Refuse a stage of dvc.yaml that lacks an input which an earlier stage writes."""
    stages = read_stages(FILE) if Path(FILE).is_file() else {}
    writers = {out: name for name, other in stages.items() for out in entry_paths(other.get("outs", []))}
    for path in entry_paths(stages.get(stage, {}).get("deps", [])):
        if path in writers and not Path(path).exists():
            raise Refusal(f"{stage}: {path} is not there; first run: trainyard {writers[path]} (or all: trainyard run)")


def read_stages(file: str) -> dict[str, Any]:
    """Return the stages of a dvc.yaml file, without expanding foreach and matrix."""
    stages = recipe.load(file).get("stages")
    if not isinstance(stages, dict) or not all(isinstance(stage, dict) for stage in stages.values()):
        raise Refusal(f"{file}: holds no mapping 'stages' of stages; see dvc.yaml of the repository")
    return stages


def stage_names(file: str) -> list[str]:
    """Return the stage names that `dvc repro` takes for `file`: `fit@lenet` and so on, and `fit` for all of them."""
    names = []
    for name, stage in read_stages(file).items():
        keys = stage.get("foreach", [])
        if stage.get("matrix"):
            axes = [map(str, axis) for axis in stage["matrix"].values()]
            keys = ["-".join(key) for key in product(*axes)]
        names += [f"{name}@{key}" for key in keys]
        names.append(name)
    return names


def entry_paths(entries: list[str | dict[str, Any]]) -> list[str]:
    """Return the paths of `outs` or `deps`, in which an entry is a path or {path: settings}."""
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]
