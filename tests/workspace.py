"""Copy the repository into a git repository of its own, in which a test runs the product's commands."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.commands import sandbox

BIN = Path(sys.executable).parent


@dataclass
class Workspace:
    """A copy of the repository, and the environment of the commands that run in it."""

    folder: Path
    environment: dict[str, str]

    def run(self, *command: str, code: int = 0, **environment: str) -> str:
        """Run a command, whose exit code must be `code`; return its stdout and stderr."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment | environment, capture_output=True, text=True, timeout=900
        )
        assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-5000:]}"
        return done.stdout + done.stderr

    def trainyard(self, *arguments: str, code: int = 0, **environment: str) -> str:
        """Run a trainyard command as `run` does."""
        return self.run(sys.executable, "-m", "pipelines", *arguments, code=code, **environment)

    def json(self, path: str) -> Any:
        """Return the content of a JSON file."""
        return json.loads((self.folder / path).read_text())

    def bytes(self, *folders: str) -> dict[str, str]:
        """Return {path: SHA-256} of the files in the folders, except hidden ones."""
        files = sorted(f for folder in folders for f in (self.folder / folder).rglob("[!.]*") if f.is_file())
        return {str(f.relative_to(self.folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def clone(folder: Path, changes: dict[str, dict[str, Any]]) -> Workspace:
    """Copy the repository's files into `folder`, as one commit; changes: {recipe file: {dotted key: value}}."""
    sandbox.clone_repository(folder, changes)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "TRAINYARD", "DVC"))}
    environment |= {
        "PATH": f"{BIN}{os.pathsep}{environment['PATH']}",
        "PYTHONPATH": str(folder),
        "TRAINYARD_THREADS": "1",
    }
    return Workspace(folder, environment)
