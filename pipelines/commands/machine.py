"""Check Python, packages, disk, memory and GPU of this machine, for `trainyard doctor`.

Import nothing heavy: the CUDA version of torch is read from its source.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from components.processes import available_cores

OK = "ok"
NOTE = "note"
BAD = "BAD"  # a run would fail
Line = tuple[str, str]  # (OK, NOTE or BAD, text)

PACKAGES = ("torch", "torchvision", "ray", "mlflow", "dvc", "optuna")
LOCK = Path("requirements.lock")
DISK = 2 << 30  # bytes that a run may need
MEMORY = 3 << 30  # bytes that the flagship and its cluster need with two workers
LARGE_WORK_FOLDER = 1 << 30  # bytes
CGROUP = Path("/sys/fs/cgroup")


# ------------------------------------------------------------------------------------------------ environment


def check_python() -> Iterator[Line]:
    """Check the version of Python."""
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        yield OK, f"python {version}"
    else:
        yield BAD, f"python {version}: use 3.11 to 3.13 (rm -r .venv; make env)"


def check_packages() -> Iterator[Line]:
    """Compare the installed packages with the lock file."""
    installed = {_normalize(d.name): d.version for d in importlib.metadata.distributions()}
    yield from ((BAD, f"{name} is missing: make env") for name in PACKAGES if name not in installed)
    versions = ", ".join(f"{name} {installed[name]}" for name in PACKAGES if name in installed)
    if not LOCK.is_file():
        yield NOTE, f"{versions}; no {LOCK} here to compare with: run trainyard in the root of the repository"
        return
    locked = dict(_read_lock(LOCK.read_text(encoding="utf-8")))
    absent = [name for name in locked if name not in installed and name not in PACKAGES]
    other = [f"{n} {installed[n]} (locked {v})" for n, v in locked.items() if installed.get(n, v) != v]
    equal = len(locked) - len(absent) - len(other)
    yield OK, f"{versions}; {equal} of {len(locked)} packages as locked"
    if other:
        yield NOTE, f"not the locked version: {_shorten(other)}: make env"
    if absent:
        yield NOTE, f"locked but not installed: {_shorten(absent)}: make env"


def _read_lock(text: str) -> Iterator[tuple[str, str]]:
    """Yield (name, version) of each package in a lock file that applies to this platform and Python."""
    from packaging.requirements import Requirement

    for line in text.splitlines():
        if line.strip() and line[0] not in "# \t":  # indented lines hold hashes
            requirement = Requirement(line.removesuffix("\\").strip())
            if requirement.marker is None or requirement.marker.evaluate():
                yield _normalize(requirement.name), str(requirement.specifier).removeprefix("==")


def check_bytecode() -> Iterator[Line]:
    """Check that packages are compiled; otherwise every process starts two to three times slower."""
    uncompiled = []
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        folders = (spec and spec.submodule_search_locations) or []
        files = [file for folder in folders for file in Path(folder).glob("*/*.py")]
        missing = sum(not Path(importlib.util.cache_from_source(str(file))).is_file() for file in files)
        if missing > 0.2 * len(files):
            uncompiled.append(name)
    if uncompiled:
        remedy = f"{sys.executable} -m compileall -q -j 0 {sysconfig.get_path('purelib')}"
        yield NOTE, f"no compiled bytecode of {', '.join(uncompiled)}, so slow starts: {remedy}"
    else:
        yield OK, "bytecode is compiled"


def _normalize(name: str) -> str:
    """Return a package's name as PEP 503 normalizes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _shorten(items: list[str], limit: int = 4) -> str:
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return f"{', '.join(items[:limit])}{more}"


# ------------------------------------------------------------------------------------------------ hardware


def check_disk() -> Iterator[Line]:
    """Check the free disk space and the size of past runs."""
    free = shutil.disk_usage(".").free
    text = f"{free / 2**30:.1f} GiB of disk free"
    if free > DISK:
        yield OK, text
    else:
        yield BAD, f"{text}: make room for {DISK >> 30} GiB (dvc gc --workspace; .trainyard)"
    work = Path(".trainyard")
    size = sum(file.stat().st_size for file in work.rglob("*") if file.is_file()) if work.is_dir() else 0
    if size > LARGE_WORK_FOLDER:
        yield NOTE, f".trainyard holds {size / 2**30:.1f} GiB of past runs: safe to delete"


def check_memory() -> Iterator[Line]:
    """Check the free memory of the machine and of its container, on Linux."""
    numbers = [*_read_numbers(Path("/proc/meminfo"), r"^MemAvailable: +(\d+) kB", 10), *container_memory()]
    if not numbers:
        return
    free = min(numbers)
    text = f"{free / 2**30:.1f} GiB of memory free"
    if free > MEMORY:
        yield OK, text
    else:
        remedy = "close something, or TRAINYARD_WORKERS=1"
        yield NOTE, f"{text}: a run takes up to {MEMORY >> 30}, and the kernel kills what exceeds the memory: {remedy}"


def container_memory() -> list[int]:
    """Return [free bytes] of a container with a limit, otherwise []; cached files count as free."""
    sources = (("memory.max", r"^(\d+)"), ("memory.current", r"^(\d+)"), ("memory.stat", r"^inactive_file (\d+)"))
    numbers = [number for name, pattern in sources for number in _read_numbers(CGROUP / name, pattern)]
    if len(numbers) < len(sources):
        return []
    limit, used, cached = numbers
    return [limit - used + cached]


def _read_numbers(file: Path, pattern: str, shift: int = 0) -> list[int]:
    """Return [first number of a kernel file that matches `pattern`, times 2**shift], or []."""
    match = re.search(pattern, file.read_text(), re.MULTILINE) if file.is_file() else None
    return [int(match[1]) << shift] if match else []


def check_gpu() -> Iterator[Line]:
    """Check that the GPUs, their driver and torch fit together."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        yield OK, f"no GPU: {available_cores()} CPU cores do the work"
        return
    try:
        table = _run_tool(tool)
        names = _run_tool(tool, "-L").splitlines()
    except (OSError, subprocess.TimeoutExpired):
        table = ""
        names = []
    if not any(name.startswith("GPU") for name in names):
        yield NOTE, "nvidia-smi finds no GPU: check the driver"
        return
    yield OK, f"GPU: {'; '.join(name.split(' (UUID')[0] for name in names)}"
    driver = re.search(r"CUDA Version: (\d+)\.(\d+)", table)
    built = _torch_cuda()
    if built is None:
        yield BAD, "torch is built without CUDA and would not use it: make env"
    elif driver and int(driver[1]) < built[0]:
        newest = f"{driver[1]}.{driver[2]}"
        yield BAD, f"torch is built for CUDA {built[0]}, but the driver supports only {newest}: update the driver"
    else:
        yield OK, f"torch is built for CUDA {built[0]}.{built[1]}"


def _run_tool(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=10).stdout


def _torch_cuda() -> tuple[int, int] | None:
    """Return the CUDA version that torch was built for, from its version.py."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).with_name("version.py")
    match = re.search(r"^cuda\b.*= '(\d+)\.(\d+)", file.read_text() if file.is_file() else "", re.MULTILINE)
    return (int(match[1]), int(match[2])) if match else None
