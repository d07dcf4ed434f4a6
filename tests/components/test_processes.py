"""Test how many cores a process may use: affinity, and the quotas of both versions of control groups."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from components import processes

PROGRAM = "from components.processes import available_cores; print(available_cores())"


def write_group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)


@pytest.fixture
def membership(tmp_path: Path) -> Path:
    return tmp_path / "membership"


def test_the_tightest_quota_above_a_process_counts(tmp_path: Path, membership: Path) -> None:
    root = tmp_path / "cgroup"
    write_group(root / "job", cpu__max="250000 100000\n")
    write_group(root / "job" / "step", cpu__max="max 100000\n")
    membership.write_text("0::/job/step\n")
    assert processes.cpu_quotas(root, membership) == [2.5]


def test_quotas_of_version_1_are_read_from_the_processors_controller(tmp_path: Path, membership: Path) -> None:
    root = tmp_path / "cgroup"
    write_group(root / "cpu,cpuacct", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    write_group(root / "cpu,cpuacct" / "docker", cpu__cfs_quota_us="150000", cpu__cfs_period_us="100000")
    membership.write_text("5:memory:/other\n3:cpu,cpuacct:/docker\n0::/\n")
    assert processes.cpu_quotas(root, membership) == [1.5]


def test_a_container_sees_its_own_group_as_the_root(tmp_path: Path, membership: Path) -> None:
    """The path in /proc is the host's, which the container's file system does not have."""
    root = tmp_path / "cgroup"
    write_group(root, cpu__max="50000 100000\n")
    membership.write_text("0::/kubepods/pod7/box\n")
    assert processes.cpu_quotas(root, membership) == [0.5]


@pytest.mark.parametrize("content", ["", "max", "x y", "100000 0"])
def test_an_unreadable_quota_is_ignored(tmp_path: Path, membership: Path, content: str) -> None:
    write_group(tmp_path / "cgroup", cpu__max=content)
    membership.write_text("0::/\n")
    assert processes.cpu_quotas(tmp_path / "cgroup", membership) == []


@pytest.mark.skipif(sys.platform != "linux", reason="affinity is Linux's")
def test_affinity_limits_the_cores() -> None:
    core = min(os.sched_getaffinity(0))
    command = ["taskset", "-c", str(core), sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "1"


def test_quotas_are_rounded_up_to_at_least_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    for quota, cores in ((0.2, 1), (1.5, 2), (512.0, len(os.sched_getaffinity(0)))):
        monkeypatch.setattr(processes, "cpu_quotas", lambda *_, quota=quota: [quota])
        assert processes.available_cores() == min(cores, len(os.sched_getaffinity(0)))
