"""Where a run comes from: git state, its dvc.lock, versions. Tags of every run in MLflow."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import subprocess
from pathlib import Path

PACKAGES = ("torch", "torchvision", "ray", "mlflow", "dvc", "optuna", "numpy")
LOCKS = ("dvc.lock", "requirements.lock")
CODE = ("components", "pipelines")  # where a file that git does not know can change a result; DVC's locks can't
LONGEST = 5000  # letters of a tag


def provenance(lock: str | Path = "dvc.lock") -> dict[str, str]:
    tags = {f"version.{name}": importlib.metadata.version(name) for name in PACKAGES}
    tags |= {"version.python": platform.python_version(), "platform": platform.platform()}
    for name, file in zip(LOCKS, (Path(lock), Path("requirements.lock")), strict=True):
        if file.is_file():
            tags[f"sha256.{name}"] = hashlib.sha256(file.read_bytes()).hexdigest()
    commit = _git("rev-parse", "HEAD")
    if commit:
        tags |= {"mlflow.source.git.commit": commit, "mlflow.source.git.branch": _git("branch", "--show-current")}
        new = _git("status", "--porcelain", "--untracked-files=all", "--", *CODE, ":(exclude)*dvc.lock").splitlines()
        lines = [_git("status", "--porcelain", "--untracked-files=no"), *(line for line in new if line[:2] == "??")]
        tags["git.changed"] = "\n".join(filter(None, lines))[:LONGEST] or "nothing"
    return tags | {"mlflow.source.type": "PROJECT"}


def _git(*arguments: str) -> str:
    """The command's output, or nothing outside a repository or without git."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
