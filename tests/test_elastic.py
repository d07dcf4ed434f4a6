"""A node is announced to go, is lost and comes back: training saves, shrinks, grows, and ends with the same bytes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from components.cluster.connection import LOOPBACK
from components.cluster.local import local_cluster
from components.processes import BIN
from components.runs import journal
from components.training.peers import Peers
from pipelines.workers.training import train_all

pytestmark = [pytest.mark.cluster(lane=2), pytest.mark.slow]
FIT = {"epochs": 100, "batch": 50, "shards": 2, "log_every": 2, "checkpoint_seconds": 1e6}  # saved on notice alone
DRIVER = """
    import json, sys
    from pathlib import Path
    from components.cluster import spread
    section, digits, out = json.loads(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    fit = {"section": section, "run": str(out / "run"), "out": str(out / "model"), "seed": 0}
    prepared = [f"{digits}/prepared", f"{digits}/augmented"]
    places = {"folder": out / "ray", "notice": out / "run" / "save"}
    spread.run_on_workers("pipelines.workers.training.train_all", [fit], *prepared, name="elastic", **places)
"""


@contextmanager
def node(address: str, folder: Path) -> Iterator[subprocess.Popen]:
    """A second raylet of one CPU, killed with all it runs when the block ends."""
    command = [str(BIN / "ray"), "start", f"--address={address}", "--block", "--num-cpus=1", "--disable-usage-stats"]
    log = (folder / "node.log").open("a")
    process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def working(node: subprocess.Popen) -> bool:
    """Whether a worker of Ray Train runs on that node: a run may begin on the other one alone, and grow."""
    for process in psutil.Process(node.pid).children(recursive=True):
        with suppress(psutil.Error):
            if "RayTrainWorker" in " ".join(process.cmdline()):
                return True
    return False


def driver(section: str, digits: Path, out: Path) -> subprocess.Popen:
    out.mkdir()
    environment = os.environ | {"TRAINYARD_WORKERS": "1:2", "TRAINYARD_THREADS": "1"}
    code = [sys.executable, "-c", textwrap.dedent(DRIVER), section, str(digits), str(out)]
    return subprocess.Popen(code, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def steps(out: Path) -> int:
    file = out / "run" / journal.LOG
    records = journal.read_records(file, "progress")
    return records[-1].payload["step"] if records else 0


def nodes(count: int, patience: float = 60) -> None:
    """Waits until so many are alive, as a process of its own sees it."""
    code = "import time; from components.cluster import connection; connection.connect(); import ray\n"
    code += f"while sum(n['Alive'] for n in ray.nodes()) != {count}: time.sleep(0.2)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=patience)


def saved(out: Path) -> list[int]:
    """The steps of the checkpoints there are."""
    return [int(path.name.removeprefix("checkpoint-")) for path in (out / "run").glob("checkpoint-*")]


def announce(address: str) -> None:
    """Tells the cluster, as a cloud's agent does, that the node which is not the head will be taken away soon."""
    code = "from components.cluster import connection; connection.connect(); import ray\n"
    code += (
        "print(*(n['NodeID'] for n in ray.nodes() if n['Alive'] and 'node:__internal_head__' not in n['Resources']))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    command = [str(BIN / "ray"), "drain-node", f"--address={address}", f"--node-id={found[-1]}"]
    command += ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot", "--deadline-remaining-seconds=60"]
    subprocess.run(command, check=True, capture_output=True)


def weights(out: Path) -> bytes:
    return (out / "model" / "weights.safetensors").read_bytes()


def test_a_lost_node_costs_time_and_changes_nothing(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_ADDRESS", *LOOPBACK):  # a cluster of its own, beside the one that other tests share
        monkeypatch.delenv(name, raising=False)
    section = {
        "task": {
            "use": "tasks.classification.Classification",
            "model": {"use": "models.resnet.ResNet", "widths": [8, 16], "blocks": 1, "stem": "cifar"},
        },
        "fit": FIT,
    }
    alone, out = tmp_path / "alone", tmp_path / "elastic"
    fit = {"section": section, "run": str(alone / "run"), "out": str(alone / "model"), "seed": 0}
    train_all(Peers(), [fit], str(digits / "prepared"), str(digits / "augmented"))
    total = steps(alone)
    with local_cluster(cpus=1, loopback=False) as address:
        with node(address, tmp_path) as second:
            nodes(2)
            elastic = driver(json.dumps(section), digits, out)
            until = time.monotonic() + 300
            while not working(second) or steps(out) < total // 10:
                assert elastic.poll() is None, elastic.stdout.read()
                assert time.monotonic() < until
                time.sleep(0.2)
            assert not saved(out)
            told_at = steps(out)
            announce(address)
            until = time.monotonic() + 60
            while not saved(out):
                assert elastic.poll() is None, elastic.stdout.read()
                assert time.monotonic() < until, "no checkpoint on a notice"
                time.sleep(0.2)
            assert min(saved(out)) >= told_at
        lost_at = steps(out)
        until = time.monotonic() + 300
        while steps(out) <= lost_at + 4:  # it goes on with the one that is left
            assert elastic.poll() is None, elastic.stdout.read()
            assert time.monotonic() < until, "it did not go on"
            time.sleep(0.2)
        with node(address, tmp_path) as back:
            until, grown = time.monotonic() + 400, False
            while elastic.poll() is None:
                assert time.monotonic() < until
                grown = grown or working(back)
                time.sleep(0.2)
            assert elastic.returncode == 0, elastic.stdout.read()
    assert grown, "no worker on the node that came back"
    assert weights(out) == weights(alone)
    shutil.rmtree(out)
