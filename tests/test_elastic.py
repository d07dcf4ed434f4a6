"""Test elastic training: a node is announced to go, is lost and comes back; the result has the same bytes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from components.cluster.connection import LOOPBACK
from components.cluster.local import local_cluster
from components.processes import BIN
from components.runs import journal
from components.training.peers import Peers
from pipelines.workers.records import FitJob
from pipelines.workers.training import train_all

pytestmark = [pytest.mark.cluster(lane=3), pytest.mark.nodes]
FIT = {"epochs": 100, "batch": 50, "shards": 2, "log_every": 2, "checkpoint_seconds": 1e6}  # saved on a notice only
DRIVER = """
    import json, sys
    from pathlib import Path
    from components.cluster import spread
    from pipelines.workers.records import FitJob
    section, digits, out = json.loads(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    job = FitJob(section, run=str(out / "run"), out=str(out / "model"), seed=0)
    prepared = [f"{digits}/prepared", f"{digits}/augmented"]
    places = {"folder": out / "ray", "notice": out / "run" / "save"}
    spread.run_on_workers("pipelines.workers.training.train_all", [job], *prepared, name="elastic", **places)
"""


@contextmanager
def second_node(address: str, folder: Path) -> Iterator[subprocess.Popen]:
    """Add a raylet with one CPU to the cluster and kill it with all its processes when the block ends."""
    command = [str(BIN / "ray"), "start", f"--address={address}", "--block", "--num-cpus=1", "--disable-usage-stats"]
    log = (folder / "node.log").open("a")
    process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def has_worker(node: subprocess.Popen) -> bool:
    """Return whether a worker of Ray Train runs on that node; a run may start on the other node and grow later."""
    for process in psutil.Process(node.pid).children(recursive=True):
        with suppress(psutil.Error):
            if "RayTrainWorker" in " ".join(process.cmdline()):
                return True
    return False


def start_driver(section: str, digits: Path, out: Path) -> subprocess.Popen:
    out.mkdir()
    environment = os.environ | {"TRAINYARD_WORKERS": "1:2", "TRAINYARD_THREADS": "1"}
    code = [sys.executable, "-c", textwrap.dedent(DRIVER), section, str(digits), str(out)]
    return subprocess.Popen(code, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def last_step(out: Path) -> int:
    """Return the last step that the journal reports, or 0."""
    records = journal.read_records(out / "run" / journal.LOG, "progress")
    return records[-1].payload["step"] if records else 0


def checkpoint_steps(out: Path) -> list[int]:
    """Return the steps of all checkpoints."""
    return [int(path.name.removeprefix("checkpoint-")) for path in (out / "run").glob("checkpoint-*")]


def read_weights(out: Path) -> bytes:
    return (out / "model" / "weights.safetensors").read_bytes()


def await_condition(driver: subprocess.Popen, condition: Callable[[], bool], seconds: float, fault: str) -> None:
    """Wait until the condition holds while the driver runs; fail after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert driver.poll() is None, driver.stdout.read() if driver.stdout else ""
        assert time.monotonic() < deadline, fault
        time.sleep(0.2)


def await_nodes(count: int, seconds: float = 60) -> None:
    """Wait, in another process, until so many nodes are alive."""
    code = "import time; from components.cluster import connection; connection.connect(); import ray\n"
    code += f"while sum(n['Alive'] for n in ray.nodes()) != {count}: time.sleep(0.2)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=seconds)


def announce_removal(address: str) -> None:
    """Tell the cluster, as a cloud's agent does, that the node which is not the head will soon be removed."""
    code = "from components.cluster import connection; connection.connect(); import ray\n"
    code += "others = [n for n in ray.nodes() if n['Alive'] and 'node:__internal_head__' not in n['Resources']]\n"
    code += "print(*(n['NodeID'] for n in others))"
    listing = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    command = [str(BIN / "ray"), "drain-node", f"--address={address}", f"--node-id={listing.stdout.split()[-1]}"]
    command += ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot", "--deadline-remaining-seconds=60"]
    subprocess.run(command, check=True, capture_output=True)


def test_a_lost_node_costs_time_and_changes_nothing(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_ADDRESS", *LOOPBACK):  # start a cluster besides the one that other tests share
        monkeypatch.delenv(name, raising=False)
    section = {
        "task": {
            "use": "tasks.classification.Classification",
            "model": {"use": "models.resnet.ResNet", "widths": [8, 16], "blocks": 1, "stem": "cifar"},
        },
        "fit": FIT,
    }
    alone, out = tmp_path / "alone", tmp_path / "elastic"
    job = FitJob(section, run=str(alone / "run"), out=str(alone / "model"), seed=0)
    train_all(Peers(), [job], str(digits / "prepared"), str(digits / "augmented"))
    total = last_step(alone)
    with local_cluster(cpus=1, loopback=False) as address:
        with second_node(address, tmp_path) as second:
            await_nodes(2)
            driver = start_driver(json.dumps(section), digits, out)
            await_condition(
                driver, lambda: has_worker(second) and last_step(out) >= total // 10, 300, "it did not start on both"
            )
            assert not checkpoint_steps(out)
            announced_at = last_step(out)
            announce_removal(address)
            await_condition(driver, lambda: bool(checkpoint_steps(out)), 60, "no checkpoint on a notice")
            assert min(checkpoint_steps(out)) >= announced_at
        lost_at = last_step(out)
        await_condition(driver, lambda: last_step(out) > lost_at + 4, 300, "it did not go on with the remaining node")
        with second_node(address, tmp_path) as back:
            grown = False
            deadline = time.monotonic() + 400
            while driver.poll() is None:
                assert time.monotonic() < deadline
                grown = grown or has_worker(back)
                time.sleep(0.2)
            assert driver.returncode == 0, driver.stdout.read() if driver.stdout else ""
    assert grown, "no worker on the node that came back"
    assert read_weights(out) == read_weights(alone)
    shutil.rmtree(out)
