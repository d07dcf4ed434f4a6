"""`trainyard verify`: train a version of the registered model again from its run's record, and compare the results.

A copy of the repository at the run's commit, with the run's params and the raw data that are here, goes through
`trainyard run` with its own tracking store. Weights must have the same bytes, data the same digest and metrics the same
values. Equal bytes need the same kind of hardware and the same threads per worker; elsewhere expect close metrics.
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
from components.files import bytes_digest, path_digest
from components.recipes import recipe
from components.tracking.registry import Registry, model_name
from components.workspace import RAW, link_missing_files, repository_root
from pipelines.commands.sandbox import GENERATED
from pipelines.flagship import METRICS_FILE, TARGET_PREPARED, served_model
from pipelines.stage.provenance import LOCKS, PACKAGES, provenance

PARAMS = "params.yaml"
COPIED = {PARAMS, *LOCKS}  # files that may differ from the commit: the copy gets the run's own
ENVIRONMENT = ("platform", "version.python", *(f"version.{name}" for name in PACKAGES))


@dataclass(frozen=True)
class Outcome:
    """The facts about a model that can be compared.

    weights: SHA-256 of the exported folder. data: first 32 digits of the digest of the prepared data.
    """

    weights: str
    data: str
    metrics: dict[str, float]


def main(version: str | None = None, keep: bool = False) -> int:
    """Return exit code 0 if training again gives the same outcome, otherwise 1.

    version: of the registered model (default: the champion, or the newest). keep: leave the copy.
    """
    registry = Registry(model_name(recipe.load(PARAMS)))
    original = registry.version(version) if version else registry.champion() or registry.newest()
    registry.check_bytes(original)
    origin = registry.origin(original)
    commit = find_commit(origin.tags, original.number)
    then = Outcome(original.digest, origin.inputs.get(TARGET_PREPARED, ""), origin.metrics)
    folder = Path(tempfile.mkdtemp(prefix="trainyard-verify-"))
    try:
        copy = check_out(folder / "copy", commit, origin.params)
        print(f"{registry.name} version {original.number}, commit {commit[:10]}, again in {copy}", flush=True)
        if code := run_pipeline(copy):
            raise Refusal(
                f"verify: the run in the copy ended with exit code {code}; see above (--keep leaves the copy)"
            )
        differences = print_differences(then, read_outcome(copy), origin.tags)
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    return 1 if differences else 0


def find_commit(tags: dict[str, str], number: str) -> str:
    """Return the commit from the tags of a version's run; raise Refusal if it does not determine the version's code."""
    commit = tags.get("mlflow.source.git.commit", "")
    lines = tags.get("git.changed", "nothing").splitlines()
    names = [line.split(maxsplit=1)[-1] for line in lines if line != "nothing"]
    changed = [name for name in names if name not in COPIED and not name.startswith(GENERATED)]
    if changed:
        raise Refusal(f"version {number} was made with changes that no commit has ({changed[0]}); commit before a run")
    lookup = subprocess.run(["git", "cat-file", "-e", f"{commit}^{{commit}}"], capture_output=True, check=False)
    if not commit or lookup.returncode:
        name = commit or "(none recorded)"
        raise Refusal(f"version {number}: its commit {name} is not in this repository; git fetch?")
    return commit


def check_out(folder: Path, commit: str, params: dict[str, str]) -> Path:
    """Copy the repository at `commit` into `folder`, with the raw data that are here; return `folder`.

    params: {dotted name: text} as MLflow stores them; they replace those of the commit.
    """
    _run_git("clone", "--quiet", "--no-checkout", str(repository_root()), str(folder))
    _run_git("checkout", "--quiet", commit, folder=folder)
    committed = recipe.load(folder / PARAMS)
    flat = recipe.flatten(committed)
    changes = {name: parse_value(text) for name, text in params.items() if name not in flat or str(flat[name]) != text}
    if changes:
        (folder / PARAMS).write_text(yaml.safe_dump(recipe.overlay(committed, changes), sort_keys=False))
    link_missing_files(repository_root() / RAW, folder / RAW)
    return folder


def _run_git(command: str, *arguments: str, folder: Path | None = None) -> None:
    where = [] if folder is None else ["-C", str(folder)]
    git = subprocess.run(["git", *where, command, *arguments], capture_output=True, text=True, check=False)
    if git.returncode:
        raise Refusal(f"verify: git {command}: {git.stderr.strip().splitlines()[-1]}")


def parse_value(text: str) -> Any:
    """Return the value that `str` turned into `text`."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def run_pipeline(folder: Path) -> int:
    """Run `trainyard run` in the copy, apart from our own cluster and tracking server; return its exit code."""
    foreign = ("RAY_ADDRESS", "MLFLOW", "DVC")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    environment["PYTHONPATH"] = str(folder)
    return subprocess.run(
        [sys.executable, "-m", "pipelines", "run"], cwd=folder, env=environment, check=False
    ).returncode


def read_outcome(folder: Path) -> Outcome:
    """Return the outcome of the run in `folder`."""
    metrics = json.loads((folder / METRICS_FILE).read_text())
    return Outcome(
        weights=bytes_digest(served_model(folder)),
        data=path_digest(folder / TARGET_PREPARED)[:32],
        metrics={name: value for name, value in metrics.items() if not isinstance(value, list)},
    )


def print_differences(then: Outcome, now: Outcome, tags: dict[str, str]) -> list[str]:
    """Print both outcomes and how the environments differ; return the names of what differs.

    tags: of the original run, which describe its environment.
    """
    rows: dict[str, tuple[Any, Any]] = {"data": (then.data, now.data), "weights": (then.weights, now.weights)}
    rows |= {name: (then.metrics.get(name), value) for name, value in now.metrics.items()}
    print(f"\n{'':<24} {'then':<14} now")
    for name, (old, new) in rows.items():
        mark = "" if old == new else "DIFFERENT"
        print(f"{name:<24} {format_value(old):<14} {format_value(new):<14} {mark}".rstrip())
    here = provenance()
    for name in ENVIRONMENT:
        if tags.get(name) != here.get(name):
            print(f"{name.removeprefix('version.')}: {tags.get(name)} then, {here.get(name)} now")
    different = [name for name, (old, new) in rows.items() if old != new]
    print("not the same" if different else "the same")
    return different


def format_value(value: Any) -> str:
    """Return a number with six significant digits, or the first twelve characters of a digest."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)[:12]
