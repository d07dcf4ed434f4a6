"""Find what is to be verified: a registered version by its run at the tracker, a result by its run on this disk."""

from __future__ import annotations

import re
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.errors import Refusal
from components.files import bytes_digest
from components.recipes import recipe
from components.runs import journal
from components.runs.description import RUN, read_description
from components.runs.journal import LOG, STAGE_LOG
from components.tracking.registry import Registry, Version, model_name
from components.workspace import runs_folder
from pipelines.commands.sandbox import GENERATED
from pipelines.flagship import TARGET_PREPARED
from pipelines.stage.outputs import read_json
from pipelines.stage.provenance import LOCKS

PARAMS = "params.yaml"
RESULTS, RECIPES = Path("results"), Path("pipelines")


@dataclass(frozen=True)
class Outcome:
    """The facts about a model that can be compared.

    weights: SHA-256 of the exported folder. data: first 32 digits of the digest of the prepared data.
    """

    weights: str
    data: str
    metrics: dict[str, float]


@dataclass(frozen=True)
class Original:
    """A version or a result, and what its run recorded."""

    title: str
    recipe: str  # path of the YAML file that it was made with
    outcome: Outcome
    params: dict[str, str]  # dotted name -> value as text
    tags: dict[str, str]
    inputs: dict[str, str]  # path, or name of a data set -> at least the first 32 digits of its digest
    files: dict[str, Path] = field(default_factory=dict)  # name in a statement -> file whose bytes it states
    model: str = ""  # name of the registered model; "" for a result
    version: str = ""


def find_original(what: str | None, folder: Path) -> Original:
    """Return the original that `what` names; a version is downloaded into `folder` and its bytes are checked.

    what: a number (version of the model of params.yaml), NAME or NAME/VERSION of any registered model, a folder of
    results, or a recipe; None: the champion of params.yaml, or its newest version.
    """
    if what is not None and (Path(what).is_dir() or what.endswith(".yaml")) and what != PARAMS:
        return _find_result(what)
    name, _, number = (what or "").rpartition("/")
    if what is None or what == PARAMS or re.fullmatch(r"\d+", what):
        name = model_name(recipe.load(PARAMS))
        number = "" if what == PARAMS else what or ""
    elif not re.fullmatch(r"\d+", number):
        if name:  # names of models hold no /
            return _find_result(what)
        name, number = what, ""
    registry = Registry(name)
    version = registry.version(number) if number else registry.champion() or registry.newest()
    return _read_version(registry, version, folder)


def _read_version(registry: Registry, version: Version, folder: Path) -> Original:
    model = registry.fetch(version, folder)
    origin = registry.origin(version)
    path = find_recipe(registry.name)
    if path == PARAMS:
        data = origin.inputs.get(TARGET_PREPARED, "")
        # The scores of `evaluate` have no prefix, unlike what a run costs
        metrics = {name: value for name, value in origin.metrics.items() if "/" not in name}
    else:
        data = origin.tags.get("data.digest", "")[:32]
        metrics = {name[5:]: value for name, value in origin.metrics.items() if name.startswith("test/")}
    return Original(
        title=f"{registry.name} version {version.number}",
        recipe=path,
        outcome=Outcome(version.digest, data, metrics),
        params=origin.params,
        tags=origin.tags,
        inputs=origin.inputs,
        files=list_files(model),
        model=registry.name,
        version=version.number,
    )


def find_recipe(name: str) -> str:
    """Return the path of the recipe that registers the model `name`: FAMILY-SYSTEM, or the name in params.yaml."""
    if Path(PARAMS).is_file() and recipe.load(PARAMS).get("name") == name:
        return PARAMS
    for file in sorted(RECIPES.glob("*/*.yaml")):
        if f"{file.parent.name}-{file.stem}" == name:
            return str(file)
    raise Refusal(
        f"verify: no recipe {RECIPES}/FAMILY/SYSTEM.yaml here makes a model '{name}'; git checkout its branch"
    )


def _find_result(what: str) -> Original:
    """Return the result of a recipe, or in a folder below results/, with the newest run here that made it."""
    place = Path(what)
    family, system = place.resolve().parent.name, place.stem if what.endswith(".yaml") else place.resolve().name
    folder, path = RESULTS / family / system, RECIPES / family / f"{system}.yaml"
    metrics = read_json(str(folder / "metrics.json"))
    if metrics is None:
        raise Refusal(f"verify: {folder}/metrics.json: not there; name a folder below results/ that has one")
    run = _find_run(family, system, metrics)
    description = read_description(run)
    tags = read_tags(run)
    inputs = {entry["name"]: entry["digest"] for entry in description["inputs"]}
    model = folder / "model"
    weights = bytes_digest(model) if model.is_dir() else ""
    return Original(
        title=str(folder),
        recipe=str(path),
        outcome=Outcome(weights, tags.get("data.digest", "")[:32], metrics),
        params={name: str(value) for name, value in description["params"].items()},
        tags=tags,
        inputs=inputs,
        files=result_files(folder),
    )


def read_tags(run: Path) -> dict[str, str]:
    """Return all tags of the run in a folder: those of its description, of its fit and of its stage."""
    records = [record for log in (LOG, STAGE_LOG) for record in journal.read_records(run / log, "tag")]
    recorded = {record.payload["name"]: str(record.payload["value"]) for record in records}
    return {**read_description(run)["tags"], **recorded}


def _find_run(family: str, system: str, metrics: dict[str, Any]) -> Path:
    """Return the folder of the newest run that recorded these scores; raise Refusal if none did."""
    runs = []
    for file in runs_folder().glob(f"{system}-*/{RUN}"):
        with suppress(Refusal):  # a damaged description
            if read_description(file.parent)["experiment"] == family:
                runs.append(file.parent)
    for run in sorted(runs, key=lambda run: (run / RUN).stat().st_mtime_ns, reverse=True):
        scores: dict[str, Any] = {}
        for record in journal.read_records(run / STAGE_LOG, "metric"):
            scores |= record.payload["values"]
        if all(scores.get(f"test/{name}") == value for name, value in metrics.items()):
            return run
    raise Refusal(
        f"verify: no run of {family}/{system} with the scores in {RESULTS}/{family}/{system} is in {runs_folder()};"
        " verify its registered version instead, or run it again"
    )


def list_files(folder: Path) -> dict[str, Path]:
    """Return {"model/..." : path} of the files in the folder of a model."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {f"model/{file.relative_to(folder)}": file for file in files}


def result_files(folder: Path) -> dict[str, Path]:
    """Return {name: path} of the model's files and the metrics in the folder of a result."""
    return list_files(folder / "model") | {"metrics.json": folder / "metrics.json"}


def find_commit(original: Original) -> str:
    """Return the commit of the original's run; raise Refusal if it does not determine the code."""
    tags = original.tags
    commit = tags.get("mlflow.source.git.commit", "")
    lines = tags.get("git.changed", "nothing").splitlines()
    names = [line.split(maxsplit=1)[-1] for line in lines if line != "nothing"]
    copied = {PARAMS, *LOCKS, original.recipe}  # may differ from the commit: the copy gets the run's own
    changed = [name for name in names if name not in copied and not name.startswith(GENERATED)]
    if changed:
        raise Refusal(f"{original.title} was made with changes that no commit has ({changed[0]}); commit before a run")
    lookup = subprocess.run(["git", "cat-file", "-e", f"{commit}^{{commit}}"], capture_output=True, check=False)
    if not commit or lookup.returncode:
        name = commit or "(none recorded)"
        raise Refusal(f"{original.title}: its commit {name} is not in this repository; git fetch?")
    return commit
