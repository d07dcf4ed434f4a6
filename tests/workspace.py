"""A copy of the repository under git, in which a test runs the product's own commands."""

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
    folder: Path
    environment: dict[str, str]

    def run(self, *command: str, code: int = 0, **environment: str) -> str:
        """stdout and stderr of a command run in the workspace; its exit code must be `code`."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment | environment, capture_output=True, text=True, timeout=900
        )
        assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-5000:]}"
        return done.stdout + done.stderr

    def trainyard(self, *arguments: str, code: int = 0, **environment: str) -> str:
        return self.run(sys.executable, "-m", "pipelines", *arguments, code=code, **environment)

    def json(self, path: str) -> Any:
        return json.loads((self.folder / path).read_text())

    def bytes(self, *folders: str) -> dict[str, str]:
        files = sorted(f for folder in folders for f in (self.folder / folder).rglob("[!.]*") if f.is_file())
        return {str(f.relative_to(self.folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def clone(folder: Path, changes: dict[str, dict[str, Any]]) -> Workspace:
    """The repository's files in `folder`, recipes changed by {file: {dotted key: value}}, one commit."""
    sandbox.clone_repository(folder, changes)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "TRAINYARD", "DVC"))}
    environment |= {
        "PATH": f"{BIN}{os.pathsep}{environment['PATH']}",
        "PYTHONPATH": str(folder),
        "TRAINYARD_THREADS": "1",
    }
    return Workspace(folder, environment)
