"""Compare the time per picture of R-CNN and Fast R-CNN with the same proposals.

    python -m benchmarks.detectors                  # on scenes
    python -m benchmarks.detectors --backbone       # on scenes, with a ResNet-18
    python -m benchmarks.detectors --side 3         # on scenes, Fast R-CNN with squares of 3 x 3 cells

With --backbone both have the body of a ResNet-18; the recipes' own networks are so small that fixed costs weigh more. A
time is the least of several, because other work on the machine only adds to it. The networks have initial weights, on
which the time does not depend; R-CNN's SVMs and box regression are fitted on them. The time of selective search is that
of both, and is printed apart.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from components.data.proposals import Search
from components.recipes import recipe
from components.storage.dataset import Dataset, prepare_dataset
from components.storage.feed import Feed
from components.storage.moments import compute_moments
from components.storage.store import Store
from components.training.task import Spec, Task

FAMILY = Path(__file__).parents[1] / "pipelines" / "detection"
PICTURES = 24
ROUNDS = 9
FEW = 4  # pictures that are searched; a search takes long


def fastest(function: Callable[[], Any]) -> float:
    """Return the least processor time of ROUNDS calls, in milliseconds."""
    times = []
    for _ in range(ROUNDS):
        started = time.process_time()
        function()
        times.append(time.process_time() - started)
    return min(times) * 1e3


def main() -> None:
    """Print the milliseconds per picture of both detectors and of the search for proposals, on one thread."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", action="store_true", help="take the body of a ResNet-18 for both")
    parser.add_argument("--side", type=int, help="side of the squares that Fast R-CNN pools regions to")
    options = parser.parse_args()
    contents = {name: recipe.load(FAMILY / f"{name}.yaml") for name in ("rcnn", "fast-rcnn")}
    data = contents["rcnn"]["data"]
    assert data == contents["fast-rcnn"]["data"], "both recipes must have the same proposals"
    with tempfile.TemporaryDirectory() as folder:
        small = data | {"of": data["of"] | {"count": PICTURES, "test": PICTURES}}
        manifest = prepare_dataset(recipe.build(small, Dataset), Path(folder))
        store = Store(folder)
        columns = {name: tuple(column["shape"]) for name, column in manifest["columns"].items()}
        spec = Spec(columns, tuple(manifest["classes"]), compute_moments(store.split("train"), 0, 1).finish())
        train, test = Feed(store.split("train")), Feed(store.split("test"))
        single = list(test.batches(1))
        counts = [len(batch["proposals"][0]) for batch in single]
        print(f"{PICTURES} pictures, {np.mean(counts):.0f} proposals each, one thread")
        times = {}
        for name, content in contents.items():
            if options.backbone:
                content["task"]["model"]["backbone"] = {"use": "models.resnet.ResNet"}
            if options.side and name == "fast-rcnn":
                content["task"]["model"]["side"] = options.side
            task: Task = recipe.build(content["task"], Task)
            torch.manual_seed(0)
            state = task.setup(spec)
            state.modules["net"].to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
            task.finish(state, lambda function: [function(batch) for batch in train.batches(8)])
            with torch.no_grad():
                times[name] = float(np.mean([fastest(partial(task.predict, state, batch)) for batch in single]))
            print(f"{name:<10} {times[name]:8.2f} ms per picture")
        search = Search(**{key: value for key, value in data["search"].items() if key != "use"})
        images = [batch["image"][0].numpy() for batch in single]
        milliseconds = float(np.mean([fastest(partial(search, image)) for image in images[:FEW]]))
        print(f"search     {milliseconds:8.2f} ms per picture")
        print(f"fast-rcnn is {times['rcnn'] / times['fast-rcnn']:.1f} times as fast as rcnn, without the search")


if __name__ == "__main__":
    main()
