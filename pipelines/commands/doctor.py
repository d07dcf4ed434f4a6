"""`trainyard doctor`: check this machine, one line per check; every problem comes with its remedy."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from components import network
from components.cluster import connection
from components.errors import Refusal
from components.originals import inventory
from components.tracking import server
from components.workspace import RAW
from pipelines.commands import machine
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
    path = Path(".dvc/tmp/rwlock")
    try:
        pids = _read_lock_holders(path)
    except (ValueError, KeyError, TypeError, AttributeError):
        yield BAD, f"{path} is damaged: rm {path}"
        return
    live = sorted(pid for pid in pids if _is_alive(pid))
    if live:
        yield NOTE, f"a dvc command is at work (process {live[0]}): wait for it, or end it (kill {live[0]})"
    elif pids:
        yield NOTE, f"{path} names a process that is gone: harmless; rm {path}"
    index = Path(".git/index.lock")
    if index.is_file() and time.time() - index.stat().st_mtime > STALE_SECONDS:
        yield BAD, f"{index} is left from a killed git: rm {index}"


def _read_lock_holders(path: Path) -> set[int]:
    """Return the process ids in dvc's lock file."""
    locks = json.loads(path.read_text()) if path.is_file() else {}
    writers = list(locks.get("write", {}).values())
    readers = [entry for entries in locks.get("read", {}).values() for entry in entries]
    return {int(entry["pid"]) for entry in [*writers, *readers] if entry}


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it belongs to another user
    return True


# ------------------------------------------------------------------------------------------------ data and servers


def check_ports() -> Iterator[Line]:
    """Check the port of `trainyard ui`."""
    if network.accepts_connections("127.0.0.1:5000"):
        yield NOTE, "port 5000 is taken: trainyard ui --port 5001"
    else:
        yield OK, "port 5000 is free for trainyard ui"


def check_originals(recipe: str) -> Iterator[Line]:
    """Check the original files of every data set; BAD if `recipe` needs one that cannot be downloaded."""
    try:
        data_sets = list(inventory.list_originals(recipe))
    except Refusal as refusal:
        yield BAD, str(refusal)
        return
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
            yield state, f"{recipe} needs {path}, which is not there: {remedy}"
        if not (missing or data_set.damaged):
            use = "" if data_set.needed else f", not needed by {recipe}"
            yield OK, f"{data_set.folder}: {_count_files(data_set)}{use}"
    for part in RAW.rglob("*.part-*") if RAW.is_dir() else []:
        yield NOTE, f"{part} is left from a download that was cut off: rm {part}"


def _count_files(data_set: inventory.OriginalsStatus) -> str:
    total = len(data_set.addresses)
    return f"{total - len(data_set.missing)} of {total} original file{'s' if total > 1 else ''} there"


def check_tracker() -> Iterator[Line]:
    """Check MLFLOW_TRACKING_URI, and that a server it names answers."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if uri.startswith("http"):
        yield from _check_tracking_server(uri)
    elif (uri and "://" not in uri) or uri.startswith("file:"):
        remedy = "use sqlite:///mlflow.db or unset it"
        yield BAD, f"MLFLOW_TRACKING_URI={uri}: MLflow 3 keeps no runs in a folder: {remedy}"
    else:
        yield OK, f"tracking in {server.hide_credentials(uri) or 'mlflow.db'}"


def _check_tracking_server(uri: str) -> Iterator[Line]:
    try:
        address = network.host_and_port(server.hide_credentials(uri))
    except Refusal as refusal:
        yield BAD, f"MLFLOW_TRACKING_URI: {refusal}"
        return
    if network.accepts_connections(address, patience=1):
        yield OK, f"tracking server {address} answers"
    else:
        remedy = "start it, or unset the variable to track in mlflow.db; runs are kept until then (trainyard sync)"
        yield BAD, f"MLFLOW_TRACKING_URI: {address} does not answer: {remedy}"


def check_cluster() -> Iterator[Line]:
    """Check that a Ray cluster that RAY_ADDRESS names answers."""
    setting = os.environ.get("RAY_ADDRESS")
    if not setting:
        yield OK, "Ray: every command starts its own cluster; RAY_ADDRESS names another"
        return
    try:
        address = connection.cluster_address()
    except Refusal as refusal:
        yield BAD, str(refusal)
        return
    if network.accepts_connections(address.removeprefix("ray://"), patience=1):
        yield OK, f"Ray cluster at {setting} answers"
    else:
        yield BAD, f"RAY_ADDRESS={setting} does not answer: ray start --head, or unset it"
