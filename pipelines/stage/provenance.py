"""Describe where a run comes from: git state, DVC's lock, versions, and the digest of the code."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

from components.files import files_digest
from pipelines.stage.bill import describe_machine

PACKAGES = ("torch", "torchvision", "ray", "mlflow", "dvc", "optuna", "numpy")
SETTINGS = ("TRAINYARD_WORKERS", "TRAINYARD_THREADS")  # environment variables that can change bytes
LOCKS = ("dvc.lock", "requirements.lock")
WATCHED_FOLDERS = ("components", "pipelines")  # an untracked file in one of these can change a result
MAX_TAG_LENGTH = 5000  # characters
CODE_FOLDERS = (
    *("recipes", "training", "storage", "originals", "data", "augment"),
    *("models", "layers", "losses", "metrics", "decoding", "tasks"),
)
CODE_PATTERNS = (  # sources that can change a result, not those that only run, track or show it
    *("components/optimizers.py", "components/schedules.py"),
    *(f"components/{folder}/**/*.py" for folder in CODE_FOLDERS),
    "pipelines/workers/*.py",
)


def code_digest() -> str:
    """Return the SHA-256 over the sources that a result depends on."""
    root = Path(__file__).parents[2]
    return files_digest(root, [file for pattern in CODE_PATTERNS for file in root.glob(pattern)])


def provenance(lock: str | Path = "dvc.lock") -> dict[str, str]:
    """Return the MLflow tags of a run: versions, SHA-256 of the lock files, git commit and uncommitted changes."""
    tags = {f"version.{name}": importlib.metadata.version(name) for name in PACKAGES}
    tags |= {f"setting.{name}": os.environ.get(name, "default") for name in SETTINGS}
    tags |= {"machine": describe_machine()}
    tags |= {"version.python": platform.python_version(), "platform": platform.platform()}
    for name, file in zip(LOCKS, (Path(lock), Path("requirements.lock")), strict=True):
        if file.is_file():
            tags[f"sha256.{name}"] = hashlib.sha256(file.read_bytes()).hexdigest()
    commit = _git("rev-parse", "HEAD")
    if commit:
        tags |= {"mlflow.source.git.commit": commit, "mlflow.source.git.branch": _git("branch", "--show-current")}
        tags["git.changed"] = _uncommitted_changes()[:MAX_TAG_LENGTH] or "nothing"
    return tags | {"mlflow.source.type": "PROJECT"}


def _uncommitted_changes() -> str:
    """Return git's status lines of changed files, and of untracked files where they can change a result.

    Paths are relative to the current folder, which may be a sub-folder of the repository; what others change beside it
    is left out.
    """
    # DVC's own locks are changed by every stage
    arguments = ("--untracked-files=all", "--", *WATCHED_FOLDERS, ":(exclude)*dvc.lock")
    untracked = [line for line in _status_lines(*arguments) if line[:2] == "??"]
    return "\n".join([*_status_lines("--untracked-files=no", "--", "."), *untracked]).strip()


def _status_lines(*arguments: str) -> list[str]:
    """Return one line "XY PATH" per change that `git status` lists, with paths as they are, relative to here."""
    prefix = _git("rev-parse", "--show-prefix")
    entries = iter(_git("status", "--porcelain", "-z", *arguments).split("\0"))
    lines = []
    for entry in entries:
        if entry:
            # git's paths are relative to the root of the repository
            lines.append(f"{entry[:3]}{entry[3:].removeprefix(prefix)}")
            if "R" in entry[:2]:
                next(entries)  # the name before
    return lines


def _git(*arguments: str) -> str:
    """Return the command's output, empty outside a repository or without git."""
    try:
        output = subprocess.run(["git", *arguments], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    return output.decode(errors="backslashreplace").rstrip("\n")
