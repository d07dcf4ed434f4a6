"""One thread a process, whatever the test: results must not depend on the machine's cores."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest
import torch

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of two processes (`-n 2 --dist loadgroup`) one has all that starts stages on a cluster, most of which is waiting;
    the other goes through the other files meanwhile.
    """
    for item in items:
        clustered = item.get_closest_marker("cluster") is not None
        item.add_marker(pytest.mark.xdist_group("cluster" if clustered else item.nodeid.partition("::")[0]))
    items.sort(key=lambda item: item.get_closest_marker("cluster") is None)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory):
    """A folder of prepared digits (500 for training, the rest for testing), with its statistics beside it."""
    import json

    from components.augment.offline import statistics
    from components.data.dataset import prepare
    from components.data.digits import Digits
    from components.data.store import Store

    folder = tmp_path_factory.mktemp("digits")
    prepare(Digits(labels=500, size=16), folder / "prepared")
    (folder / "augmented").mkdir()
    split = Store(folder / "prepared").split("train")
    (folder / "augmented" / "statistics.json").write_text(json.dumps(statistics(split, 0, 1).finish()))
    return folder


@pytest.fixture(scope="session")
def cluster_of_two():
    """The address of the test run's one Ray cluster (two CPUs, loopback); RAY_ADDRESS names it meanwhile."""
    from pipelines.run import local_cluster

    with local_cluster(cpus=2) as address:
        yield address
        ray = sys.modules.get("ray")
        if ray is not None:
            ray.shutdown()
