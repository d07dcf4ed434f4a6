"""Make an original again: a copy of the repository at its commit, with its params and its inputs, runs once."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from components.errors import Refusal
from components.files import bytes_digest, path_digest
from components.processes import end_with_parent
from components.recipes import recipe
from components.workspace import RAW, link_missing_files, repository_root
from pipelines.commands.verification.original import PARAMS, RESULTS, Original, Outcome, read_tags
from pipelines.flagship import METRICS_FILE, TARGET_PREPARED, served_model
from pipelines.stage.outputs import read_json
from pipelines.stage.provenance import SETTINGS

DIGITS = 32  # of a digest, that MLflow keeps


@dataclass(frozen=True)
class Rerun:
    """The outcome of the run in the copy, and the tags that it recorded."""

    outcome: Outcome
    tags: dict[str, str]


def check_out(folder: Path, commit: str, original: Original) -> Path:
    """Copy the repository at `commit` into `folder`, with the original's params and inputs.

    Return the checkout in the copy: `folder`, or the sub-folder of it that this checkout is of its repository.
    """
    top = Path(_run_git("rev-parse", "--show-toplevel", folder=repository_root()))
    _run_git("clone", "--quiet", "--no-checkout", str(top), str(folder))
    _run_git("checkout", "--quiet", commit, folder=folder)
    folder /= repository_root().resolve().relative_to(top)
    file = folder / original.recipe
    committed = recipe.load(file) if file.is_file() else {}
    content = restore_params(original.params, committed)
    if content != committed:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(content, sort_keys=False))
    link_missing_files(repository_root() / RAW, folder / RAW)
    if original.recipe != PARAMS:
        _link_inputs(original, folder)
    return folder


def _link_inputs(original: Original, folder: Path) -> None:
    """Link the files and folders that the run read, such as another recipe's model; refuse one that has changed."""
    for name, digest in original.inputs.items():
        if "/" not in name:
            continue  # a data set, which the run prepares
        if not Path(name).exists():
            raise Refusal(f"{original.title}: its input {name} is not here; run what makes it, or dvc checkout")
        if path_digest(name)[:DIGITS] != digest[:DIGITS]:
            raise Refusal(
                f"{original.title}: its input {name} has changed since; dvc checkout the one of {digest[:12]}"
            )
        target = folder / name
        if not Path(name).is_absolute() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(Path(name).resolve())


def _run_git(command: str, *arguments: str, folder: Path | None = None) -> str:
    """Return git's output; raise Refusal if it fails."""
    where = [] if folder is None else ["-C", str(folder)]
    git = subprocess.run(["git", *where, command, *arguments], capture_output=True, text=True, check=False)
    if git.returncode:
        reason = (git.stderr.strip().splitlines() or [f"exit code {git.returncode}"])[-1]
        raise Refusal(f"verify: git {command}: {reason}")
    return git.stdout.rstrip("\n")


def restore_params(params: dict[str, str], committed: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a recipe from {dotted name: text}, with the committed values where their text is the same.

    The keys of a search's space have dots themselves.
    """
    flat = recipe.flatten(committed)
    content: dict[str, Any] = {}
    for name, text in params.items():
        before, is_space, after = name.partition("search.space.")
        if is_space and "." in after:
            keys = [*f"{before}search.space".split("."), *after.rsplit(".", 1)]
        else:
            keys = name.split(".")
        section = content
        for key in keys[:-1]:
            section = section.setdefault(key, {})
        section[keys[-1]] = flat[name] if name in flat and str(flat[name]) == text else parse_value(text)
    return content


def parse_value(text: str) -> Any:
    """Return the value that `str` turned into `text`."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def run_copy(folder: Path, original: Original) -> int:
    """Run the original's recipe in the copy, apart from our own cluster and tracking server; return the exit code.

    Workers and threads are as they were set for the original.
    """
    foreign = ("RAY_ADDRESS", "MLFLOW", "DVC", "TRAINYARD_FOLLOWED")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    for name in SETTINGS:
        if setting := original.tags.get(f"setting.{name}"):
            environment.pop(name, None)
            environment |= {name: setting} if setting != "default" else {}
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    verb = ["run"] if original.recipe == PARAMS else ["fit", original.recipe]
    command = [sys.executable, "-m", "pipelines", *verb]
    return subprocess.run(command, cwd=folder, env=environment, check=False, preexec_fn=end_with_parent).returncode


def read_rerun(folder: Path, original: Original) -> Rerun:
    """Return the outcome of the run in the copy `folder`."""
    runs = folder / ".trainyard" / "runs"
    path = Path(original.recipe)
    if original.recipe == PARAMS:
        metrics = read_json(str(folder / METRICS_FILE))
        weights, data = bytes_digest(served_model(folder)), path_digest(folder / TARGET_PREPARED)[:DIGITS]
        tags = read_tags(next(runs.glob("evaluate-*")))
    else:
        result = folder / RESULTS / path.parent.name / path.stem
        metrics = read_json(str(result / "metrics.json"))
        weights = bytes_digest(result / "model") if (result / "model").is_dir() else ""
        tags = read_tags(next(runs.glob(f"{path.stem}-*")))
        data = tags.get("data.digest", "")[:DIGITS]
    scores = {name: value for name, value in metrics.items() if not isinstance(value, list)}
    return Rerun(Outcome(weights, data, scores), tags)
