"""`trainyard doctor`: check this machine, one line per check; every problem comes with its remedy."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from components import network
from components.cluster import health
from components.errors import Refusal, TryLater, pluralize
from components.originals import inventory
from components.tracking import local_store, probe, server
from components.workspace import RAW
from pipelines.commands import machine, remote
from pipelines.commands.dvc import locks
from pipelines.commands.machine import BAD, NOTE, OK, Line
from pipelines.stage import dvc_files

PARAMS = "params.yaml"
STALE_SECONDS = 60  # age of git's lock after which no git holds it any more


def main(recipe: str = PARAMS) -> int:
    """Print all checks; return exit code 1 if a run of `recipe` would fail, otherwise 0."""
    if recipe != PARAMS and not Path(recipe).is_file():
        raise Refusal(f"{recipe}: no such recipe; name a YAML file such as {PARAMS}")
    checks: list[Callable[[], Iterator[Line]]] = [
        machine.check_python,
        machine.check_packages,
        machine.check_bytecode,
        check_repository,
        check_locks,
        check_ports,
        machine.check_disk,
        machine.check_memory,
        partial(check_originals, recipe),
        check_tracker,
        remote.check_remote,
        machine.check_gpu,
        check_cluster,
    ]
    code = 0
    for check in checks:
        for state, text in check():
            print(f"{state:4}  {text}", flush=True)
            if state == BAD:
                code = 1
    return code


# ------------------------------------------------------------------------------------------------ repository


def check_repository() -> Iterator[Line]:
    """Check that git is installed and that DVC is set up."""
    if shutil.which("git") is None:
        yield BAD, "git is missing: DVC needs it; install it with your system's packages"
    try:
        dvc_files.check_repository()
    except Refusal as refusal:
        yield BAD, str(refusal)
        return
    config = Path(".dvc/config")
    text = config.read_text() if config.is_file() else ""
    template = re.search(r"^\s*html_template\s*=\s*(\S+)", text, re.MULTILINE)
    if template and not Path(".dvc", template[1]).is_file():
        yield NOTE, f"dvc plots show will fail without .dvc/{template[1]}: trainyard report writes it"
    else:
        yield OK, "DVC is set up"


def check_locks() -> Iterator[Line]:
    """Check for locks of dvc and git that a killed process left behind or a live one holds."""
    path = locks.RWLOCK
    try:
        pids = locks.lock_holders()
    except (ValueError, KeyError, TypeError, AttributeError):
        yield BAD, f"{path} is damaged: rm {path}"
        return
    live = sorted(pid for pid in pids if locks.is_alive(pid))
    if live:
        yield NOTE, f"a dvc command is at work (process {live[0]}): wait for it, or end it (kill {live[0]})"
    elif pids:
        yield NOTE, f"{path} names a process that has ended: harmless; rm {path}"
    index = _git_path("index.lock")
    if index.is_file() and time.time() - index.stat().st_mtime > STALE_SECONDS:
        yield BAD, f"{index} was left behind by a killed git: rm {index}"


def _git_path(name: str) -> Path:
    """Return the path of one of git's own files: a checkout may be a sub-folder, a worktree or a submodule."""
    with suppress(OSError):
        command = ["git", "rev-parse", "--git-path", name]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            return Path(answer.stdout.rstrip("\n"))
    return Path(".git", name)


# ------------------------------------------------------------------------------------------------ data and servers


def check_ports() -> Iterator[Line]:
    """Check the port of `trainyard ui`."""
    port = server.PORT
    if network.accepts_connections(f"127.0.0.1:{port}"):
        yield NOTE, f"port {port} is taken: trainyard ui --port {port + 1}"
    else:
        yield OK, f"port {port} is free for trainyard ui"


def check_originals(recipe: str) -> Iterator[Line]:
    """Check the original files of every data set; BAD if `recipe` needs one that cannot be downloaded.

    Data sets that it does not need and that are not complete share a line.
    """
    try:
        data_sets = list(inventory.list_originals(recipe))
    except Refusal as refusal:
        yield BAD, str(refusal)
        return
    unneeded = 0
    for data_set in data_sets:
        for path in data_set.damaged:
            yield BAD, f"{path} is not the original: remove it, or replace it from {data_set.addresses[path]}"
        missing = [path for path in data_set.needed if path in data_set.missing]
        for path in missing:
            state = BAD
            remedy = f"put it there from {data_set.addresses[path]}"
            if data_set.downloadable:
                state = NOTE
                remedy = f"prepare downloads it where there is a network, otherwise {remedy}"
            yield state, f"{recipe} needs {path}, which is missing: {remedy}"
        if data_set.missing and not (data_set.needed or data_set.damaged):
            unneeded += 1
        elif not (missing or data_set.damaged):
            use = "" if data_set.needed else f", not needed by {recipe}"
            yield OK, f"{data_set.folder}: {_count_files(data_set)}{use}"
    if unneeded:
        incomplete = pluralize(unneeded, "data set lacks", "data sets lack")
        yield OK, f"{incomplete} original files that {recipe} does not need; trainyard doctor RECIPE checks others"
    for part in RAW.rglob("*.part-*") if RAW.is_dir() else []:
        yield NOTE, f"{part} was left behind by an interrupted download: rm {part}"


def _count_files(data_set: inventory.OriginalsStatus) -> str:
    total = len(data_set.addresses)
    present = total - len(data_set.missing)
    files = pluralize(total, "original file")
    return f"{files} present" if present == total else f"{present} of {files} present"


def check_tracker() -> Iterator[Line]:
    """Send a request to the tracker, and to the store in which a tracking server keeps files."""
    try:
        address = server.tracking_uri()
        probe.check_tracker(address)
    except Refusal as refusal:
        yield BAD, str(refusal)
        return
    except TryLater as later:
        remedy = "start it, or unset MLFLOW_TRACKING_URI to track in mlflow.db"
        yield BAD, f"{later}: {remedy}; runs are kept until then (trainyard sync)"
        return
    if not address.startswith("http"):
        place = address if "MLFLOW_TRACKING_URI" in os.environ else local_store.DATABASE
        yield OK, f"tracking in {server.hide_credentials(place)}"
        return
    yield OK, f"the tracker {address} answers"
    try:
        probe.check_files(address)
    except (Refusal, TryLater) as error:
        yield BAD, f"the store of files behind {error}"


def check_cluster() -> Iterator[Line]:
    """Send a request to the Ray cluster that RAY_ADDRESS names."""
    setting = os.environ.get("RAY_ADDRESS")
    if not setting:
        yield OK, "Ray: every command starts its own cluster; RAY_ADDRESS names another"
        return
    try:
        health.check_head(setting)
    except Refusal as refusal:
        yield BAD, str(refusal)
    except TryLater as later:
        yield BAD, f"{later}: ray start --head, or unset it"
    else:
        yield OK, f"Ray cluster at {setting} answers"
