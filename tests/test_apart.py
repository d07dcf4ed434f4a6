"""Test runs on two machines that share no folder: one of two raylets sees an empty disk where the driver works."""

from __future__ import annotations

import json
import os
import re
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
from components.processes import BIN, end_with_parent
from components.search.objective import Rung
from components.training.peers import Peers
from pipelines.workers.records import FitJob
from pipelines.workers.training import fit_and_score
from tests.test_elastic import await_condition, await_nodes, has_worker, last_step, read_weights
from tests.workspace import clone

NAMESPACES = subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode == 0
pytestmark = [
    pytest.mark.cluster(lane=3),
    pytest.mark.nodes,
    pytest.mark.timeout(1800),  # on a busy machine
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
    function, arguments = "pipelines.workers.training.fit_and_score", (data, str(out), job)
    result = spread.run_on_workers(function, *arguments, name="apart", **places)
    print(result.hardware)
"""
SEARCH = """
    import logging
    from pathlib import Path

    import ray
    from components.cluster import connection
    from components.search import ray_tune
    from components.search.objective import Objective
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    class Holder:
        def hold(self): pass

    class Release(logging.Handler):
        def emit(self, record):
            print(record.getMessage(), flush=True)
            ray.kill(holder)

    connection.connect()
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    holder = ray.remote(num_cpus=1)(Holder).options(scheduling_strategy=here).remote()
    ray.get(holder.hold.remote())
    logging.getLogger("components.search").addHandler(Release())
    objective = Objective("tests.test_apart.score_place", {"arm": {}}, rungs=1, monitor=("accuracy", "max"))
    trials = ray_tune.search(objective, Path("run"), space={"x": {"low": 0.0, "high": 1.0}}, samples=3)["arm"]
    print([trial.scores["accuracy"] for trial in trials])
"""


def score_place(rung: Rung) -> dict[str, float]:
    """Return whether this process sees the driver's folder."""
    return {"accuracy": float(Path("here").is_file())}


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
        preexec_fn=end_with_parent,
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


@contextmanager
def occupied_cpu() -> Iterator[None]:
    """Occupy the CPU of the only node while the block runs."""
    code = "from components.cluster import connection; connection.connect(); import ray\n"
    code += "holder = ray.remote(num_cpus=1)(type('Holder', (), {'hold': lambda self: 1})).remote()\n"
    code += "ray.get(holder.hold.remote()); print('held', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        try:
            yield
        finally:
            process.stdin.write(b"\n")


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Start a head of one CPU that other nodes may join; yield its address."""
    for name in ("RAY_ADDRESS", *LOOPBACK):  # start a cluster besides the one that other tests share
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))  # for `tests`, on both machines
    with local_cluster(cpus=1, loopback=False) as address:
        yield address


def test_workers_without_a_common_folder_train_the_bytes_of_one_worker(head: str, tmp_path: Path) -> None:
    yard = tmp_path / "yard"
    yard.mkdir()
    with apart_node(head, tmp_path, yard):
        await_nodes(2)
        driver = start_driver(yard, SECTION, "2")
        output, _ = driver.communicate(timeout=600)
    assert driver.returncode == 0, output
    assert re.search(r"^handed over \d+ files \(0\.\d MB\) to 1 machine without this folder$", output, re.MULTILINE)
    assert "2 workers on" in output
    assert [*(tmp_path / "cache").rglob("train-000.arrow")], "the other machine has its own copy"
    assert not [*(tmp_path / "cache").rglob("checkpoint-*")]
    assert read_weights(yard) == fit_alone(tmp_path / "alone", SECTION)


def test_a_run_goes_on_without_the_machine_that_was_lost_and_on_a_new_one(head: str, tmp_path: Path) -> None:
    yard, lost, fresh = (tmp_path / name for name in ("yard", "lost", "fresh"))
    for folder in (yard, lost, fresh):
        folder.mkdir()
    section = SECTION | {"fit": SECTION["fit"] | {"epochs": 100}}
    weights = fit_alone(tmp_path / "alone", section)
    total = last_step(tmp_path / "alone")
    with apart_node(head, lost, yard) as second:
        await_nodes(2)
        driver = start_driver(yard, section, "1:2")
        await_condition(
            driver, lambda: has_worker(second) and last_step(yard) >= total // 10, 300, "it did not start on both"
        )
        lost_at = last_step(yard)
    await_condition(driver, lambda: last_step(yard) > lost_at + 4, 300, "it did not go on with the remaining node")
    with apart_node(head, fresh, yard):
        output, _ = driver.communicate(timeout=600)
    assert driver.returncode == 0, output
    assert [*(fresh / "cache").rglob("train-000.arrow")], "it has not grown"
    assert read_weights(yard) == weights


def test_a_run_that_began_on_the_other_machine_begins_again_on_the_drivers(head: str, tmp_path: Path) -> None:
    yard = tmp_path / "yard"
    yard.mkdir()
    with occupied_cpu():
        with apart_node(head, tmp_path, yard):
            await_nodes(2)
            driver = start_driver(yard, SECTION, "1")
            await_condition(driver, lambda: bool([*yard.glob("ray/*-here")]), 200, "it did not begin again")
            # the CPU of the driver's machine becomes free
    output, _ = driver.communicate(timeout=600)
    assert driver.returncode == 0, output
    assert read_weights(yard) == fit_alone(tmp_path / "alone", SECTION)


def test_trials_run_on_the_drivers_machine(head: str, tmp_path: Path) -> None:
    """At first the driver's machine has no CPU to spare, so a trial begins on the other one."""
    yard = tmp_path / "yard"
    yard.mkdir()
    (yard / "here").touch()
    with apart_node(head, tmp_path, yard):
        await_nodes(2)
        code = [sys.executable, "-c", textwrap.dedent(SEARCH)]
        done = subprocess.run(code, cwd=yard, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "trials run on this machine alone: others of the cluster do not share its folder",
        "[1.0, 1.0, 1.0]",
    ]


def test_a_recipe_with_a_search_leaves_all_results_on_the_drivers_machine(head: str, tmp_path: Path) -> None:
    recipe = "pipelines/studies/optimizers.yaml"
    changes = {"data.labels": 100, "fit.epochs": 1, "tune.folds": 2}
    workspace = clone(tmp_path / "yard", {recipe: changes})
    with apart_node(head, tmp_path, workspace.folder):
        await_nodes(2)
        output = workspace.trainyard("fit", recipe, TRAINYARD_WORKERS="2")
    assert "to 1 machine without this folder" in output
    results = workspace.folder / "results/studies/optimizers"
    assert read_weights(results)
    trials = (results / "tables/search.csv").read_text().splitlines()[1:]
    assert len(trials) > 2
    assert all("True" in trial for trial in trials)
