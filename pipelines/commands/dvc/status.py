"""What DVC knows: which stages would run, and why; imported sources brought up to date."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import yaml

from components.errors import Refusal, TryLater
from components.processes import BIN, end_with_parent
from pipelines.commands import run

PATIENCE = 60.0  # seconds that another dvc may need to end
BUSY = ("is busy, it is being blocked", "Unable to acquire lock")  # what dvc says then


def changes(*targets: str, patience: float | None = None) -> list[str]:
    """One line a reason to run: what changed since the last run, by stage. None when all is up to date.

    targets: arguments of `dvc status`, the flagship when left out; patience: `PATIENCE` when left out.
    """
    answer = _status(targets or ("dvc.yaml",), PATIENCE if patience is None else patience)
    found: dict[str, list[Any]] = json.loads(answer[answer.index("{") :])
    lines = []
    for stage, reasons in found.items():
        for reason in reasons:
            named = reason if isinstance(reason, dict) else {str(reason): {}}
            lines += [f"{stage}: {kind}: {', '.join(_names(what)) or kind}" for kind, what in named.items()]
    return lines


def _status(targets: tuple[str, ...], patience: float) -> str:
    """`dvc status`; one that outlived a killed command and still saves is waited for, and may be so for `patience`."""
    until, told = time.monotonic() + patience, False
    while True:
        command = [str(BIN / "dvc"), "status", "--json", *targets]
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
        if asked.returncode == 0:
            return asked.stdout
        if not any(text in asked.stderr for text in BUSY):
            raise Refusal(f"dvc status failed: {_last(asked.stderr)}")
        if time.monotonic() > until:
            raise TryLater("another dvc is at work in this folder; the champion stays as it is")
        if not told:
            print("retrain: another dvc is still at work in this folder; waiting for its end", flush=True)
            told = True
        time.sleep(1)


def _names(what: Any) -> list[str]:
    """Paths, and dotted parameters, that a reason of DVC's names."""
    if not isinstance(what, dict):
        return [str(what)]
    return [f"{path} ({how})" if isinstance(how, str) else f"{path} ({', '.join(how)})" for path, how in what.items()]


def apply(*targets: str) -> None:
    """`dvc repro`, its output shown; it ends with this process, however that ends."""
    if code := run.reproduce(*targets):
        raise Refusal(f"dvc repro {' '.join(targets)} ended with exit code {code}; see above".replace("  ", " "))


def update() -> list[str]:
    """`dvc update` of every source that was imported (dvc import, dvc import-url); the files that describe them."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.dvc"], capture_output=True, text=True, check=False
    )
    if listed.returncode:
        said = (listed.stderr.splitlines() or ["no reason given"])[0]
        raise Refusal(f"git ls-files: {said}; git must be able to read this checkout, which names the imported sources")
    files = [name for name in listed.stdout.splitlines() if Path(name).is_file() and _imported(Path(name))]
    if files:
        done = subprocess.run(
            [BIN / "dvc", "update", *files], capture_output=True, text=True, check=False, preexec_fn=end_with_parent
        )
        if done.returncode:
            raise TryLater(f"dvc update failed: {_last(done.stderr)}; the data stay as they are")
    return files


def _imported(file: Path) -> bool:
    content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    return bool(content.get("frozen")) and bool(content.get("deps"))


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if line.startswith("ERROR")), lines[-1] if lines else "no reason given")
