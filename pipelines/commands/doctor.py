"""`trainyard doctor`: is everything here? One line a check; what is wrong comes with its remedy.

Imports nothing heavy: what torch was built for is read from its source.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from components import network
from components.cluster import connection
from components.errors import Refusal
from components.originals import inventory
from components.tracking import server
from components.workspace import RAW
from pipelines.stage import dvc_files

PACKAGES = ("torch", "torchvision", "ray", "mlflow", "dvc", "optuna")
LOCK = Path("requirements.lock")
PARAMS = "params.yaml"
DISK = 2 << 30  # bytes a run may need
MEMORY = 3 << 30  # bytes that the flagship and its cluster take, with two workers
CGROUP = Path("/sys/fs/cgroup")
OK, NOTE, BAD = "ok", "note", "BAD"

Line = tuple[str, str]


def main(recipe: str = PARAMS) -> int:
    """Exit code 1 when something is BAD: a run of `recipe` would fail."""
    if recipe != PARAMS and not Path(recipe).is_file():
        raise Refusal(f"{recipe}: no such recipe; name a YAML file such as {PARAMS}")
    installed = (_python, _packages, _bytecode, _repository, _locks)
    around = (_ports, _disk, _memory, partial(_raw, recipe), _tracker, _gpu, _cluster)
    worst = OK
    for check in installed + around:
        for state, text in check():
            print(f"{state:4}  {text}", flush=True)
            worst = BAD if BAD in (state, worst) else OK
    return 1 if worst == BAD else 0


# ------------------------------------------------------------------------------------------------ environment


def _python() -> Iterator[Line]:
    version = ".".join(map(str, sys.version_info[:3]))
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
    yield (OK, f"python {version}") if fits else (BAD, f"python {version}: use 3.11 to 3.13 (rm -r .venv; make env)")


def _packages() -> Iterator[Line]:
    """What is installed, against the lock file."""
    installed = {_plain(d.name): d.version for d in importlib.metadata.distributions()}
    yield from ((BAD, f"{name} is missing: make env") for name in PACKAGES if name not in installed)
    there = ", ".join(f"{name} {installed[name]}" for name in PACKAGES if name in installed)
    if not LOCK.is_file():
        yield NOTE, f"{there}; no {LOCK} here to compare with: run trainyard in the root of the repository"
        return
    locked = dict(_locked(LOCK.read_text(encoding="utf-8")))
    absent = [name for name in locked if name not in installed and name not in PACKAGES]
    other = [f"{n} {installed[n]} (locked {v})" for n, v in locked.items() if installed.get(n, v) != v]
    yield OK, f"{there}; {len(locked) - len(absent) - len(other)} of {len(locked)} packages as locked"
    if other:
        yield NOTE, f"not the locked version: {_some(other)}: make env"
    if absent:
        yield NOTE, f"locked but not installed: {_some(absent)}: make env"


def _locked(text: str) -> Iterator[tuple[str, str]]:
    """(name, version) of each line that is meant for this platform and Python."""
    from packaging.requirements import Requirement

    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            wanted = Requirement(line.strip())
            if wanted.marker is None or wanted.marker.evaluate():
                yield _plain(wanted.name), str(wanted.specifier).removeprefix("==")


def _bytecode() -> Iterator[Line]:
    """Without bytecode every process compiles what it imports: two to three times the start-up."""
    counts = {}
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        files = [f for folder in (spec and spec.submodule_search_locations) or [] for f in Path(folder).glob("*/*.py")]
        counts[name] = sum(not Path(importlib.util.cache_from_source(str(f))).is_file() for f in files), len(files)
    bare = [name for name, (lacking, files) in counts.items() if lacking > 0.2 * files]
    if bare:
        remedy = f"{sys.executable} -m compileall -q -j 0 {sysconfig.get_path('purelib')}"
        yield NOTE, f"no compiled bytecode of {', '.join(bare)}, so slow starts: {remedy}"
    else:
        yield OK, "bytecode is compiled"


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _some(items: list[str], most: int = 4) -> str:
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return f"{', '.join(items[:most])}{more}"


# ------------------------------------------------------------------------------------------------ repository


def _repository() -> Iterator[Line]:
    if shutil.which("git") is None:
        yield BAD, "git is missing: DVC needs it; install it with your system's packages"
    try:
        dvc_files.check_repository()
    except Refusal as refusal:
        yield BAD, str(refusal)
        return
        return
    config = Path(".dvc/config")
    wanted = re.search(r"^\s*html_template\s*=\s*(\S+)", config.read_text() if config.is_file() else "", re.MULTILINE)
    if wanted and not Path(".dvc", wanted[1]).is_file():
        yield NOTE, f"dvc plots show will fail without .dvc/{wanted[1]}: trainyard report writes it"
    else:
        yield OK, "DVC is set up"


def _locks() -> Iterator[Line]:
    """What a killed process left behind, or a live one holds."""
    path = Path(".dvc/tmp/rwlock")
    try:
        held = json.loads(path.read_text()) if path.is_file() else {}
        entries = [*held.get("write", {}).values(), *(e for some in held.get("read", {}).values() for e in some)]
        pids = {int(entry["pid"]) for entry in entries if entry}
    except (ValueError, KeyError, TypeError, AttributeError):
        yield BAD, f"{path} is damaged: rm {path}"
        return
    live = sorted(pid for pid in pids if _alive(pid))
    if live:
        yield NOTE, f"a dvc command is at work (process {live[0]}): wait for it, or end it (kill {live[0]})"
    elif pids:
        yield NOTE, f"{path} names a process that is gone: harmless; rm {path}"
    index = Path(".git/index.lock")
    if index.is_file() and time.time() - index.stat().st_mtime > 60:
        yield BAD, f"{index} is left from a killed git: rm {index}"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


# ------------------------------------------------------------------------------------------------ machine


def _ports() -> Iterator[Line]:
    taken = network.accepts_connections("127.0.0.1:5000")
    yield (
        (NOTE, "port 5000 is taken: trainyard ui --port 5001") if taken else (OK, "port 5000 is free for trainyard ui")
    )


def _disk() -> Iterator[Line]:
    free = shutil.disk_usage(".").free
    text = f"{free / 2**30:.1f} GiB of disk free"
    yield (
        (OK, text) if free > DISK else (BAD, f"{text}: make room for {DISK >> 30} GiB (dvc gc --workspace; .trainyard)")
    )
    work = Path(".trainyard")
    size = sum(f.stat().st_size for f in work.rglob("*") if f.is_file()) if work.is_dir() else 0
    if size > 1 << 30:
        yield NOTE, f".trainyard holds {size / 2**30:.1f} GiB of past runs: safe to delete"


def _memory() -> Iterator[Line]:
    free = min(_numbers(Path("/proc/meminfo"), r"^MemAvailable: +(\d+) kB", 10) + _container(), default=None)
    if free is None:  # not Linux
        return
    text = f"{free / 2**30:.1f} GiB of memory free"
    remedy = f"a run takes up to {MEMORY >> 30}, and the kernel ends what is too much: close something"
    yield (OK, text) if free > MEMORY else (NOTE, f"{text}: {remedy}, or TRAINYARD_WORKERS=1")


def _container() -> list[int]:
    """What this container may still take, where it has a limit; what it only caches can be freed."""
    parts = (("memory.max", r"^(\d+)"), ("memory.current", r"^(\d+)"), ("memory.stat", r"^inactive_file (\d+)"))
    found = [number for name, pattern in parts for number in _numbers(CGROUP / name, pattern)]
    return [found[0] - found[1] + found[2]] if len(found) == len(parts) else []


def _numbers(file: Path, pattern: str, shift: int = 0) -> list[int]:
    """The first number that `pattern` finds in a file of the kernel's, if there is one."""
    found = re.search(pattern, file.read_text(), re.MULTILINE) if file.is_file() else None
    return [int(found[1]) << shift] if found else []


def _gpu() -> Iterator[Line]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        yield OK, f"no GPU: {os.cpu_count()} CPU cores do the work"
        return
    try:
        asked = subprocess.run([tool], capture_output=True, text=True, check=False, timeout=10).stdout
        names = subprocess.run(
            [tool, "-L"], capture_output=True, text=True, check=False, timeout=10
        ).stdout.splitlines()
    except (OSError, subprocess.TimeoutExpired):
        asked, names = "", []
    if not any(name.startswith("GPU") for name in names):
        yield NOTE, "nvidia-smi finds no GPU: check the driver"
        return
    yield OK, f"GPU: {'; '.join(name.split(' (UUID')[0] for name in names)}"
    driver, built = re.search(r"CUDA Version: (\d+)\.(\d+)", asked), _cuda()
    if built is None:
        yield BAD, "torch is built without CUDA and would not use it: make env"
    elif driver and int(driver[1]) < built[0]:
        yield BAD, f"torch is built for CUDA {built[0]}, the driver stops at {driver[1]}.{driver[2]}: update the driver"
    else:
        yield OK, f"torch is built for CUDA {built[0]}.{built[1]}"


def _cuda() -> tuple[int, int] | None:
    """The CUDA version that torch was built for, read from its version.py."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    version = Path(spec.origin).with_name("version.py")
    found = re.search(r"^cuda\b.*= '(\d+)\.(\d+)", version.read_text() if version.is_file() else "", re.MULTILINE)
    return (int(found[1]), int(found[2])) if found else None


# ------------------------------------------------------------------------------------------------ data and servers


def _raw(recipe: str) -> Iterator[Line]:
    """The original files of each data set; a run would fail where one is needed that nobody can fetch."""
    try:
        sets = list(inventory.list_originals(recipe))
    except Refusal as refusal:
        yield BAD, str(refusal)
        return
    for one in sets:
        for path in one.damaged:
            yield BAD, f"{path} is not the original: remove it, or replace it from {one.addresses[path]}"
        lacking = [path for path in one.needed if path in one.missing]
        for path in lacking:
            from_where = f"put it there from {one.addresses[path]}"
            remedy = (
                f"prepare fetches it where there is a network, else {from_where}" if one.downloadable else from_where
            )
            yield (NOTE if one.downloadable else BAD), f"{recipe} needs {path}, which is not there: {remedy}"
        if not (lacking or one.damaged):
            yield OK, f"{one.folder}: {_there(one)}{'' if one.needed else f', not needed by {recipe}'}"
    for part in RAW.rglob("*.part-*") if RAW.is_dir() else []:
        yield NOTE, f"{part} is left from a download that was cut off: rm {part}"


def _there(one: inventory.OriginalsStatus) -> str:
    files = len(one.addresses)
    return f"{files - len(one.missing)} of {files} original file{'s' if files > 1 else ''} there"


def _tracker() -> Iterator[Line]:
    given = os.environ.get("MLFLOW_TRACKING_URI", "")
    if given.startswith("http"):
        try:
            address = network.host_and_port(server.hide_credentials(given))
        except Refusal as refusal:
            yield BAD, f"MLFLOW_TRACKING_URI: {refusal}"
            return
        if network.accepts_connections(address, patience=1):
            yield OK, f"tracking server {address} answers"
        else:
            remedy = "start it, or unset the variable to track in mlflow.db; runs are kept until then (trainyard sync)"
            yield BAD, f"MLFLOW_TRACKING_URI: {address} does not answer: {remedy}"
    elif (given and "://" not in given) or given.startswith("file:"):
        yield (
            BAD,
            f"MLFLOW_TRACKING_URI={given}: MLflow 3 keeps no runs in a folder: use sqlite:///mlflow.db or unset it",
        )
    else:
        yield OK, f"tracking in {server.hide_credentials(given) or 'mlflow.db'}"


def _cluster() -> Iterator[Line]:
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        yield OK, "Ray: trainyard run starts a cluster of its own; RAY_ADDRESS names another"
    elif network.accepts_connections(connection.cluster_address().removeprefix("ray://"), patience=1):
        yield OK, f"Ray cluster at {address} answers"
    else:
        yield BAD, f"RAY_ADDRESS={address} does not answer: ray start --head, or unset it"
