"""Test one run on two machines that share no folder: two raylets, one of which has an empty disk where the driver works."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from components.cluster.connection import LOOPBACK
from components.cluster.local import local_cluster
from components.processes import BIN
from components.training.peers import Peers
from pipelines.workers.records import FitJob
from pipelines.workers.training import fit_and_score
from tests.test_elastic import await_nodes, read_weights

NAMESPACES = subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode == 0
pytestmark = [
    pytest.mark.cluster(lane=3),
    pytest.mark.nodes,
    pytest.mark.skipif(not NAMESPACES, reason="needs the right to mount (root)"),
]
DATA = {"use": "data.digits.Digits", "labels": 500, "size": 16}
SECTION = {
    "task": {
        "use": "tasks.classification.Classification",
        "model": {"use": "models.resnet.ResNet", "widths": [8, 16], "blocks": 1, "stem": "cifar"},
    },
    "fit": {"epochs": 3, "batch": 50, "shards": 2, "log_every": 2, "checkpoint_seconds": 1.0},
}
DRIVER = """
    import json, sys
    from pathlib import Path
    from components.cluster import spread
    from pipelines.workers.records import FitJob

    data, section, out = json.loads(sys.argv[1]), json.loads(sys.argv[2]), Path.cwd()
    job = FitJob(section, run=str(out / "run"), out="model", seed=0)
    places = {"folder": out / "ray", "notice": out / "run" / "save", "report": print}
    result = spread.run_on_workers("pipelines.workers.training.fit_and_score", data, str(out), job, name="apart", **places)
    print(result.hardware)
"""


@contextmanager
def apart_node(address: str, folder: Path, hidden: Path) -> Iterator[subprocess.Popen]:
    """Add a raylet with one CPU that sees an empty folder in the place of `hidden`; kill it when the block ends.

    folder: of its log and of its own files.
    """
    mount = 'mount --make-rprivate / && mount -t tmpfs none "$0" && exec "$@"'
    command = [str(BIN / "ray"), "start", f"--address={address}", "--block", "--num-cpus=1", "--disable-usage-stats"]
    log = (folder / "node.log").open("a")
    process = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", mount, str(hidden), *command],
        env=os.environ | {"XDG_CACHE_HOME": str(folder / "cache")},
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def start_driver(folder: Path, section: dict, workers: str) -> subprocess.Popen:
    environment = os.environ | {"TRAINYARD_WORKERS": workers, "TRAINYARD_THREADS": "1"}
    code = [sys.executable, "-c", textwrap.dedent(DRIVER), json.dumps(DATA), json.dumps(section)]
    return subprocess.Popen(
        code, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def fit_alone(folder: Path, section: dict) -> bytes:
    """Return the weights that one worker without a cluster trains."""
    job = FitJob(section, run=str(folder / "run"), out=str(folder / "model"), seed=0)
    fit_and_score(Peers(), DATA, str(folder), job)
    return read_weights(folder)


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Start a head of one CPU that other nodes may join; yield its address."""
    for name in ("RAY_ADDRESS", *LOOPBACK):  # start a cluster besides the one that other tests share
        monkeypatch.delenv(name, raising=False)
    with local_cluster(cpus=1, loopback=False) as address:
        yield address


def test_workers_of_machines_without_a_common_folder_train_the_same_bytes(head: str, tmp_path: Path) -> None:
    yard = tmp_path / "yard"
    yard.mkdir()
    with apart_node(head, tmp_path, yard):
        await_nodes(2)
        driver = start_driver(yard, SECTION, "2")
        output, _ = driver.communicate(timeout=300)
    print(output)
    assert driver.returncode == 0, output
    assert read_weights(yard) == fit_alone(tmp_path / "alone", SECTION)
    assert "handed over" in output
    assert "2 workers on" in output
