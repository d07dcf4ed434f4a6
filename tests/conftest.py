"""Share fixtures, and use one thread per process, so that results do not depend on the number of cores."""

from __future__ import annotations

import importlib
import os
import re
import signal
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest
import torch

from components.cluster import connection

torch.set_num_threads(1)

# a shell that runs tests in the background ignores these, which the processes that tests start would inherit
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGHUP, signal.SIGQUIT):
    signal.signal(number, signal.SIG_DFL)


LANE = re.compile(r"pytest\.mark\.cluster\((lane=\d)\)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests that fork before those of lane 1, whose process becomes a Ray driver: its children may abort."""
    items.sort(key=lambda item: file_order(item.path))
    if any(file_order(item.path) == 1 for item in items):
        importlib.import_module("torch._dynamo")  # every forked process would import it for its first optimiser


@cache
def file_order(file: Path) -> int:
    """Return when the tests of a file run: lanes 2 and 3, files that fork, lane 1, all others."""
    text = file.read_text()
    lane = LANE.search(text)
    if lane:
        return 2 if lane[1] == "lane=1" else 0
    return 1 if re.search(r"fork_\w+\(|start_processes", text) else 3


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Group tests by lane, or otherwise by file, for `pytest -n`.

    Tests that start stages on a cluster mostly wait for processes. With one lane per process, all wait at once.
    The contract suite is grouped by family, so that the processes share it.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Lanes(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file, _, test = nodeid.partition("::")
            family = re.search(r"\[(\w+)/", test)
            if file.endswith("test_contract.py") and family:
                return f"{file}::{family[1]}"
            lane = LANE.search((config.rootpath / file).read_text())
            return lane[1] if lane else file

    return Lanes(config, log)


@pytest.fixture(scope="module", autouse=True)
def no_driver_is_forked():
    """Disconnect from the Ray cluster after each file.

    Other files fork. A child has no copy of Ray's threads, and may abort when it frees their resources.
    """
    yield
    connection.disconnect()


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory):
    """Return an MLflow database without runs, for tests to copy, because creating one takes 2 s."""
    from components.tracking import server

    folder = tmp_path_factory.mktemp("store")
    server.make_client(f"sqlite:///{folder}/mlflow.db").search_experiments()
    return folder / "mlflow.db"


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory):
    """Prepare digits (500 for training, the rest for testing) and their statistics; return the folder."""
    import json

    from components.data.digits import Digits
    from components.storage.dataset import prepare_dataset
    from components.storage.moments import compute_moments
    from components.storage.store import Store

    folder = tmp_path_factory.mktemp("digits")
    prepare_dataset(Digits(labels=500, size=16), folder / "prepared")
    (folder / "augmented").mkdir()
    split = Store(folder / "prepared").split("train")
    (folder / "augmented" / "statistics.json").write_text(json.dumps(compute_moments(split, 0, 1).finish()))
    return folder


@pytest.fixture(scope="session")
def cluster_of_two():
    """Start the only Ray cluster of the test run (two CPUs, loopback) and yield its address.

    RAY_ADDRESS holds the address while the cluster runs.
    """
    from components.cluster.local import local_cluster

    with local_cluster(cpus=2) as address:
        yield address
