"""Compare training from an object store with training from local files: `python -m benchmarks.object_store`.

An S3 server (moto) runs on this machine and takes its share of the processors. The cache holds a third of the data, so
every epoch fetches most parts again. Each round trains LeNet on both, one after the other.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from components import optimizers
from components.models.lenet import LeNet
from components.storage.feed import Feed
from components.storage.store import Column, Store
from components.tasks.classification import Classification
from components.training import engine
from components.training.peers import Peers
from components.training.task import Spec
from pipelines.workers.preparation import write_data_set
from tests.object_store import KEYS, faulty_proxy, serve_objects

ROWS = 2000  # per part
WINDOW = 2


class Noise:
    """Random pictures with random labels."""

    name, licence, source = "noise", "CC0", "drawn here"
    classes: ClassVar = [str(label) for label in range(10)]
    columns: ClassVar = {"image": Column("uint8", (28, 28, 1)), "label": Column("int64")}

    def __init__(self, parts: int) -> None:
        self.count = parts

    def parts(self) -> dict[str, int]:
        """Return the number of parts."""
        return {"train": self.count}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield ROWS examples."""
        generator = np.random.default_rng(part)
        for label in generator.integers(0, 10, ROWS).tolist():
            yield {"image": generator.integers(0, 256, (28, 28, 1), dtype=np.uint8), "label": label}


def measure_rate(folder: Path, epochs: int) -> float:
    """Return the examples per second of a fit, its start included."""
    task = Classification(LeNet, partial(optimizers.sgd, lr=0.01))
    spec = Spec({"image": (28, 28, 1), "label": ()}, tuple(Noise.classes), {"mean": [0.5], "std": [0.3]})
    feed = Feed(Store(folder).split("train"))
    started = time.perf_counter()
    outcome = engine.fit(task, spec, feed, epochs=epochs, batch=128, window=WINDOW)
    return outcome.state.step * 128 / (time.perf_counter() - started)


def main() -> int:
    """Print the rates and their ratio; return 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name, serve_objects(Path(name)) as port, faulty_proxy(port) as proxy:
        folder = Path(name)
        local, remote = folder / "local", folder / "remote"
        write_data_set(Peers(), Noise(arguments.parts), local)
        size = sum(file.stat().st_size for file in local.glob("*.arrow"))
        os.environ |= KEYS | {"AWS_ENDPOINT_URL": proxy.address, "TRAINYARD_CACHE": str(folder / "cache")}
        os.environ["TRAINYARD_CACHE_GB"] = str(size / 3e9)
        write_data_set(Peers(), Noise(arguments.parts), remote, "s3://parts/noise")
        measure_rate(local, 1)
        rates = [
            (measure_rate(local, arguments.epochs), measure_rate(remote, arguments.epochs))
            for _ in range(arguments.rounds)
        ]
        for here, there in rates:
            print(f"local {here:,.0f}  object store {there:,.0f} examples/s  ratio {there / here:.2f}")
        ratio = statistics.median(there / here for here, there in rates)
        print(f"median ratio {ratio:.2f}; {proxy.reads} reads of {size / 1e6:,.0f} MB in {arguments.parts} parts")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
