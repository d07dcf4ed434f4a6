"""`trainyard doctor`: is everything here? One line a check; what is wrong comes with its remedy. Imports nothing heavy."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from components import ports

PACKAGES = ("torch", "torchvision", "ray", "mlflow", "dvc", "optuna")
DISK = 2 << 30
OK, NOTE, BAD = "ok  ", "note", "BAD "


def main() -> int:
    results = [line for check in (_python, _packages, _ports, _disk, _raw, _tracker, _gpu, _cluster) for line in check()]
    for state, text in results:
        print(f"{state}  {text}")
    return 1 if any(state == BAD for state, _ in results) else 0


def _python() -> Iterator[tuple[str, str]]:
    version = ".".join(map(str, sys.version_info[:3]))
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
    yield (OK, f"python {version}") if fits else (BAD, f"python {version}: use 3.11 to 3.13 (make clean; make env)")


def _packages() -> Iterator[tuple[str, str]]:
    for name in PACKAGES:
        try:
            yield OK, f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            yield BAD, f"{name} is missing: make env"
    if shutil.which("git") is None:
        yield BAD, "git is missing: DVC needs it; install it with your system's packages"
    elif not Path(".dvc").is_dir():
        yield BAD, "no .dvc folder here: run trainyard in the root of the repository"


def _ports() -> Iterator[tuple[str, str]]:
    taken = ports.answers("127.0.0.1:5000")
    yield (NOTE, "port 5000 is taken: trainyard ui --port 5001") if taken else (OK, "port 5000 is free for trainyard ui")


def _disk() -> Iterator[tuple[str, str]]:
    free = shutil.disk_usage(".").free
    text = f"{free / 2**30:.1f} GiB of disk free"
    yield (OK, text) if free > DISK else (BAD, f"{text}: make room for {DISK >> 30} GiB (dvc gc --workspace; .trainyard)")
    work = Path(".trainyard")
    size = sum(f.stat().st_size for f in work.rglob("*") if f.is_file()) if work.is_dir() else 0
    if size > 1 << 30:
        yield NOTE, f".trainyard holds {size / 2**30:.1f} GiB of past runs: safe to delete"


def _raw() -> Iterator[tuple[str, str]]:
    raw = Path("data/raw")
    found = sorted(p.name for p in raw.iterdir() if p.is_dir()) if raw.is_dir() else []
    held = ", ".join(found) or "nothing yet; embedded data need none, real data sets are downloaded or put there"
    yield OK, f"data/raw holds {held}"


def _tracker() -> Iterator[tuple[str, str]]:
    given = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not given.startswith("http"):
        yield OK, f"tracking in {given or 'mlflow.db'}"
        return
    address = given.split("://", 1)[1].split("/")[0].rpartition("@")[2]
    address = address if ":" in address else f"{address}:{443 if given.startswith('https') else 80}"
    there = ports.answers(address, patience=2)
    yield (OK, f"tracking server {address} answers") if there else (
        BAD,
        f"MLFLOW_TRACKING_URI: {address} does not answer; start it, or unset the variable to track in mlflow.db",
    )


def _gpu() -> Iterator[tuple[str, str]]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        yield OK, f"no GPU: {os.cpu_count()} CPU cores do the work"
        return
    asked = subprocess.run([tool, "-L"], capture_output=True, text=True, check=False)
    lines = asked.stdout.strip().splitlines()
    yield (OK, f"GPU: {'; '.join(lines)}") if lines else (NOTE, "nvidia-smi finds no GPU: check the driver")


def _cluster() -> Iterator[tuple[str, str]]:
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        yield OK, "Ray: trainyard run starts a cluster of its own; RAY_ADDRESS names another"
    elif ports.answers(address, patience=2):
        yield OK, f"Ray cluster at {address} answers"
    else:
        yield BAD, f"RAY_ADDRESS={address} does not answer: ray start --head, or unset it"
