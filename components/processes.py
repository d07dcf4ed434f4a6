"""Background threads of this process, child processes that end with it, its processor, and the cores it may use."""

from __future__ import annotations

import ctypes
import math
import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import process_guard

BIN = Path(sys.executable).parent  # the programs of this Python environment
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")  # lines such as 0::/user.slice


@contextmanager
def background_thread(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run `work(ended)` in a background thread while the block runs; then set `ended` and wait for the thread."""
    ended = threading.Event()
    thread = threading.Thread(target=work, args=(ended,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def end_with_parent() -> None:
    """Ask the kernel to send this child SIGTERM when its parent ends, so that a killed parent leaves no child behind.

    To be called in the child (`preexec_fn`). Does nothing on other systems than Linux.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def process_group(
    command: Sequence[str | Path], env: Mapping[str, str] | None = None, patience: float = 10.0, **options: Any
) -> Iterator[subprocess.Popen]:
    """Start a command in a session of its own while the block runs, and end all its processes afterwards.

    They also end if this process is killed: a small second process watches it. Programs such as MLflow's server leave
    children behind when they are ended alone. patience: seconds between SIGTERM and SIGKILL. options: of Popen.
    """
    watched, alive = os.pipe()
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", process_guard.__file__],
        stdin=watched,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
    os.close(watched)
    process = None
    try:
        process = subprocess.Popen(
            command,
            env=env,
            start_new_session=True,
            # In the child, before the command: there is no moment in which the guard does not know the group.
            preexec_fn=lambda: os.write(alive, f"{os.getpid()}\n".encode()),
            **options,
        )
        yield process
    finally:
        if process is not None:
            process_guard.end_group(process.pid, patience, process.poll)
            process.wait()
        os.write(alive, b"done\n")
        os.close(alive)
        guard.wait()


def processor_name() -> str:
    """Return the processor's name on Linux, otherwise that of its architecture."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def available_cores() -> int:
    """Return how many cores this process may use: its affinity, limited by the quotas of its control groups.

    The host's number of processors is more in a container, below `taskset` and in a job of a batch system.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *(math.ceil(quota) for quota in cpu_quotas())]))


def cpu_quotas(root: Path = CGROUPS, membership: Path = MEMBERSHIP) -> list[float]:
    """Return the quotas in cores of this process's control group and of all above it (cgroups v2 and v1)."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:  # not Linux
        return []
    quotas = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "cpu", "cpu,cpuacct", "cpuacct,cpu"):
            continue
        base = root / controllers
        group = base / path.strip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(base):
                quotas += _read_quota(folder)
    return quotas


def _read_quota(folder: Path) -> list[float]:
    """Return the quota of one control group in cores as a list of one, or an empty list if it has none."""
    try:
        if (file := folder / "cpu.max").is_file():
            quota, period = file.read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
    except (OSError, ValueError):
        return []
    return [int(quota) / int(period)] if quota.isdigit() and int(period) else []
