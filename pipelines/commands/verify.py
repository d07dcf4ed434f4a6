"""`trainyard verify`: makes a version of the registered model again, from what its run says of it, and compares.

A copy of the repository at the run's commit, with the run's params and the raw data that are here, goes through
`trainyard run` with a tracker of its own. Weights must have the same bytes, data the same digest, metrics the same
values. Bytes are those of a kind of hardware and of equal threads a worker: on another machine expect close metrics.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from components.errors import Refusal
from components.files import path_digest
from components.recipes import recipe
from components.tracking.registry import Registry, model_name
from components.workspace import RAW, link_missing_files, repository_root
from pipelines.commands.sandbox import GENERATED
from pipelines.flagship import METRICS_FILE, TARGET_PREPARED, served_model
from pipelines.stage.provenance import LOCKS, PACKAGES, provenance

PARAMS = "params.yaml"
COPY = {PARAMS, *LOCKS}
ENVIRONMENT = ("platform", "version.python", *(f"version.{name}" for name in PACKAGES))


@dataclass(frozen=True)
class Outcome:
    """What can be compared of a model."""

    weights: str  # SHA-256 of the exported folder
    data: str  # digest of the prepared data, the first 32 digits
    metrics: dict[str, float]


def main(version: str | None = None, keep: bool = False) -> int:
    """Exit code 1 unless the same comes out."""
    registry = Registry(model_name(recipe.load(PARAMS)))
    wanted = registry.version(version) if version else registry.champion() or registry.newest()
    origin = registry.origin(wanted)
    commit = find_commit(origin.tags, wanted.number)
    then = Outcome(wanted.digest, origin.inputs.get(TARGET_PREPARED, ""), origin.metrics)
    folder = Path(tempfile.mkdtemp(prefix="trainyard-verify-"))
    try:
        place = check_out(folder / "copy", commit, origin.params)
        print(f"{registry.name} version {wanted.number}, commit {commit[:10]}, again in {place}", flush=True)
        if code := run_pipeline(place):
            raise Refusal(
                f"verify: the run in the copy ended with exit code {code}; see above (--keep leaves the copy)"
            )
        differences = print_differences(then, read_outcome(place), origin.tags)
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    return 1 if differences else 0


def find_commit(tags: dict[str, str], number: str) -> str:
    """The commit that the version can be made from."""
    commit, lines = tags.get("mlflow.source.git.commit", ""), tags.get("git.changed", "nothing").splitlines()
    names = [line.split(maxsplit=1)[-1] for line in lines if line != "nothing"]
    if changed := [name for name in names if name not in COPY and not name.startswith(GENERATED)]:
        raise Refusal(f"version {number} was made with changes that no commit has ({changed[0]}); commit before a run")
    there = subprocess.run(["git", "cat-file", "-e", f"{commit}^{{commit}}"], capture_output=True, check=False)
    if not commit or there.returncode:
        raise Refusal(f"version {number}: its commit {commit or '(none noted)'} is not in this repository; git fetch?")
    return commit


def check_out(place: Path, commit: str, params: dict[str, str]) -> Path:
    """The repository at that commit, with the params that MLflow has as texts, and these raw data."""
    for command in (
        ["clone", "--quiet", "--no-checkout", str(repository_root()), str(place)],
        ["checkout", "--quiet", commit],
    ):
        done = subprocess.run(
            ["git", *([] if command[0] == "clone" else ["-C", str(place)]), *command],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Refusal(f"verify: git {command[0]}: {done.stderr.strip().splitlines()[-1]}")
    there = recipe.load(place / PARAMS)
    flat = recipe.flatten(there)
    changes = {key: parse_value(text) for key, text in params.items() if key not in flat or str(flat[key]) != text}
    if changes:
        (place / PARAMS).write_text(yaml.safe_dump(recipe.overlay(there, changes), sort_keys=False))
    link_missing_files(repository_root() / RAW, place / RAW)
    return place


def parse_value(text: str) -> Any:
    """What `str` made a param of."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def run_pipeline(place: Path) -> int:
    foreign = ("RAY_ADDRESS", "MLFLOW", "DVC")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    command = [sys.executable, "-m", "pipelines", "run"]
    return subprocess.run(command, cwd=place, env=environment | {"PYTHONPATH": str(place)}, check=False).returncode


def read_outcome(place: Path) -> Outcome:
    model = served_model(place)
    metrics = json.loads((place / METRICS_FILE).read_text())
    return Outcome(
        path_digest(model),
        path_digest(place / TARGET_PREPARED)[:32],
        {k: v for k, v in metrics.items() if not isinstance(v, list)},
    )


def print_differences(then: Outcome, now: Outcome, tags: dict[str, str]) -> list[str]:
    """Prints what is equal and what is not, and where the environment is another; the names of what differs."""
    rows: dict[str, tuple[Any, Any]] = {"data": (then.data, now.data), "weights": (then.weights, now.weights)}
    rows |= {name: (then.metrics.get(name), value) for name, value in now.metrics.items()}
    print(f"\n{'':<24} {'then':<14} now")
    for name, (one, other) in rows.items():
        mark = "" if one == other else "DIFFERENT"
        print(f"{name:<24} {format_value(one):<14} {format_value(other):<14} {mark}".rstrip())
    here = provenance()
    for name in ENVIRONMENT:
        if tags.get(name) != here.get(name):
            print(f"{name.removeprefix('version.')}: {tags.get(name)} then, {here.get(name)} now")
    different = [name for name, (one, other) in rows.items() if one != other]
    print("not the same" if different else "the same")
    return different


def format_value(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)[:12]
