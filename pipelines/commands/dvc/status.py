"""Ask dvc which stages would run and why, and update imported sources."""

from __future__ import annotations

import json
import os
import subprocess
import textwrap
import time
from pathlib import Path
from typing import Any

import yaml

from components.errors import Refusal, TryLater
from components.processes import BIN, end_with_parent

WIDTH = 118  # characters of a line
PATIENCE = 60.0  # seconds to wait for another dvc in the same folder
BUSY = ("is busy, it is being blocked", "Unable to acquire lock")  # dvc's messages if another dvc holds its lock


def list_changes(*targets: str, patience: float | None = None) -> list[str]:
    """Return one line per reason to run, "STAGE: KIND: NAMES", or an empty list if everything is up to date.

    A stage without a run has one line, "STAGE: never run": dvc calls all that it would read modified.

    targets: arguments of `dvc status` (default: the flagship); patience: seconds to wait for another dvc (default:
    PATIENCE).
    """
    answer = _run_dvc_status(targets or ("dvc.yaml",), PATIENCE if patience is None else patience)
    stages: dict[str, list[Any]] = json.loads(answer[answer.index("{") :])
    lines = []
    run_stages = _list_run_stages({stage.rpartition(":")[0] for stage in stages})
    for stage, reasons in stages.items():
        if stage not in run_stages:
            lines.append(f"{stage}: never run")
            continue
        for reason in reasons:
            kinds = reason if isinstance(reason, dict) else {str(reason): {}}
            lines += [f"{stage}: {kind}: {', '.join(_list_names(what)) or kind}" for kind, what in kinds.items()]
    return lines


def _list_run_stages(files: set[str]) -> set[str]:
    """Return the stages of these dvc.yaml files ("": the root's) of which the lock file beside records a run."""
    stages = set()
    for file in files:
        lock = Path(file or "dvc.yaml").with_suffix(".lock")
        content = yaml.safe_load(lock.read_text(encoding="utf-8")) if lock.is_file() else None
        names = (content or {}).get("stages") or {}
        stages |= {f"{file}:{name}" if file else name for name in names}
    return stages


def shorten_change(change: str) -> str:
    """Return a reason to run that fits a line: there may be dozens of names."""
    return textwrap.shorten(change, WIDTH, placeholder=" ...")


def _run_dvc_status(targets: tuple[str, ...], patience: float) -> str:
    """Return the output of `dvc status`; wait for a dvc that outlived a killed command and still saves."""
    deadline = time.monotonic() + patience
    is_waiting = False
    while True:
        command = [str(BIN / "dvc"), "status", "--json", *targets]
        status = subprocess.run(command, capture_output=True, text=True, check=False)
        if status.returncode == 0:
            return status.stdout
        if not any(text in status.stderr for text in BUSY):
            raise Refusal(f"dvc status failed: {_error_line(status.stderr)}")
        if time.monotonic() > deadline:
            raise TryLater("another dvc is at work in this folder; the champion stays as it is")
        if not is_waiting:
            print("retrain: waiting for another dvc that is still at work in this folder", flush=True)
            is_waiting = True
        time.sleep(1)


def _list_names(what: Any) -> list[str]:
    """Return the paths and dotted parameters of one of dvc's reasons, each with how it changed."""
    if not isinstance(what, dict):
        return [str(what)]
    changes = {path: how if isinstance(how, str) else ", ".join(how) for path, how in what.items()}
    # dvc also calls an output deleted that was never in this checkout
    return [f"{path} ({'missing' if how == 'deleted' else how})" for path, how in changes.items()]


def update_imports() -> list[str]:
    """Update every imported source (`dvc update`) and return the .dvc files that describe them."""
    git = subprocess.run(["git", "ls-files", "-coz", "--exclude-standard", "*.dvc"], capture_output=True, check=False)
    if git.returncode:
        reason = (os.fsdecode(git.stderr).splitlines() or ["no reason given"])[0]
        raise Refusal(f"git ls-files: {reason}; git must be able to read this checkout to list the imported sources")
    names = os.fsdecode(git.stdout).split("\0")[:-1]
    files = [name for name in names if Path(name).is_file() and _is_import(Path(name))]
    if files:
        update = subprocess.run(
            [BIN / "dvc", "update", *files], capture_output=True, text=True, check=False, preexec_fn=end_with_parent
        )
        if update.returncode:
            raise TryLater(f"dvc update failed: {_error_line(update.stderr)}; the data stay as they are")
    return files


def _is_import(file: Path) -> bool:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        return bool(content.get("frozen")) and bool(content.get("deps"))
    except (yaml.YAMLError, ValueError, AttributeError):
        raise Refusal(f"{file}: is not a file of dvc, such as after a merge with conflicts; restore it") from None


def _error_line(text: str) -> str:
    """Return dvc's error line, otherwise its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else "no reason given"
    return next((line for line in lines if line.startswith("ERROR")), last)
