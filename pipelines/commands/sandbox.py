"""Copy the repository into a folder where `trainyard run` works with its own tracking server and can be killed."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from components.network import free_port
from components.processes import process_group
from components.recipes import recipe
from components.runs import journal
from components.search.trials import RECORD
from components.tracking import server
from components.tracking.local_store import sqlite_address

ROOT = Path(__file__).parents[2]
GENERATED = ("metrics/", "plots/", "reports/", "results/", "models/", "dvc.lock")
STAGES = ("pretrain", "tune", "finetune")
VICTIMS = {  # kind -> texts that identify its command line
    "worker": ("RayTrainWorker", "ray::ResourceTrainable"),  # the second is Ray Tune's
    "node": ("raylet/raylet",),
    "stage": tuple(f"-m pipelines {stage}" for stage in STAGES),  # contains Ray Train's controller
    "dvc": ("bin/dvc repro",),
    "tracker": ("mlflow server",),
}


@dataclass
class Sandbox:
    """A copy of the repository with its own tracking server, in which `trainyard run` is repeated.

    starts: how often the command was started.
    """

    folder: Path
    port: int = field(default_factory=free_port)
    server: subprocess.Popen | None = None
    starts: int = 0
    groups: ExitStack = field(default_factory=ExitStack)

    @property
    def tracker(self) -> str:
        """Return the address of the tracking server."""
        return f"http://127.0.0.1:{self.port}"

    def start_tracker(self) -> None:
        """Start the tracking server; it logs to tracker.log."""
        command = server.server_command(self.port, self.folder / "artifacts")
        environment = server.server_settings(sqlite_address(self.folder / "tracker.db"))
        self.server = self._start_group(command, environment, "tracker.log")

    def start_run(self) -> subprocess.Popen:
        """Start `trainyard run` with one thread per worker; it logs to run.log."""
        self.starts += 1
        foreign = ("RAY_ADDRESS", "DVC", "TRAINYARD")
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(foreign) or name == "TRAINYARD_WORKERS"
        }
        environment |= {
            "MLFLOW_TRACKING_URI": self.tracker,
            "PYTHONPATH": str(self.folder),
            "TRAINYARD_THREADS": "1",
        }
        return self._start_group([sys.executable, "-m", "pipelines", "run"], environment, "run.log")

    def _start_group(self, command: list[str], environment: dict[str, str], log: str) -> subprocess.Popen:
        """Start a command that ends with this process at the latest; it appends to the file `log`."""
        with (self.folder / log).open("a") as file:
            group = process_group(command, environment, cwd=self.folder, stdout=file, stderr=file)
            return self.groups.enter_context(group)

    def processes(self) -> list[tuple[psutil.Process, str]]:
        """Return (process, command line) of all processes that work in the folder, and of their descendants."""
        members: dict[int, tuple[psutil.Process, str]] = {}
        for process in psutil.process_iter(["cmdline", "name"]):
            try:
                text = " ".join(process.info["cmdline"] or [])
                is_here = process.cwd() == str(self.folder) or str(self.folder) in text
                if is_here or any(parent.pid in members for parent in process.parents()):
                    members[process.pid] = process, text
            except psutil.Error:
                continue
        return list(members.values())

    def current_stage(self) -> str | None:
        """Return the stage among STAGES that runs now."""
        texts = [text for _, text in self.processes()]
        return next((stage for stage in STAGES if any(f"-m pipelines {stage}" in text for text in texts)), None)

    def last_progress(self) -> float:
        """Return the time at which the last step or trial was recorded; 0 before the first."""
        runs = self.folder / ".trainyard" / "runs"
        files = [*journal.find_files(journal.LOG, runs), *journal.find_files(RECORD, runs)]
        return max((file.stat().st_mtime for file in files), default=0.0)

    def kill(self, kind: str, generator: random.Random) -> bool:
        """Send SIGKILL to a random process of this kind; return whether there was one."""
        candidates = [process for process, text in self.processes() if any(sign in text for sign in VICTIMS[kind])]
        if not candidates:
            return False
        victim = generator.choice(sorted(candidates, key=lambda process: process.pid))
        try:
            # MLflow's server is a parent with a child that would continue to serve without it.
            children = victim.children(recursive=True) if kind == "tracker" else []
            for process in [victim, *children]:
                process.kill()
        except psutil.Error:
            return False
        return True

    def end(self) -> None:
        """Kill all processes of the sandbox."""
        for process, _ in self.processes():
            if process.pid != os.getpid():
                with suppress(psutil.Error):  # it may have ended with another one
                    process.kill()
        self.groups.close()


def clone_repository(folder: Path, changes: dict[str, dict[str, Any]]) -> Path:
    """Copy the repository's sources into `folder` as a git repository with one commit, and return `folder`.

    changes: {recipe: {dotted key: value}} applied to the copy.
    """
    listing = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    for name in os.fsdecode(listing.stdout).split("\0")[:-1]:
        if (ROOT / name).is_file() and not name.startswith(GENERATED):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    for name, values in changes.items():
        content = recipe.overlay(recipe.load(folder / name), values)
        (folder / name).write_text(yaml.safe_dump(content, sort_keys=False))
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "start"]):
        identity = ["-c", "user.name=trainyard", "-c", "user.email=trainyard@localhost"]
        subprocess.run(["git", *identity, *command], cwd=folder, check=True)
    return folder
