"""What a worker does to compare models: each one's outcomes on the same held-out examples, its latency and its size.

The verbs name these functions by their dotted paths: torch is imported here, on the workers, and in no driver.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from components.errors import Refusal
from components.storage.feed import Feed
from components.storage.store import Store
from components.training import engine, exported
from components.training.peers import Peers
from components.training.task import Batch, State, Task

ROUNDS, WARM = 50, 5


def measure_models(peers: Peers, models: dict[str, str], prepared: str, split: str) -> dict[str, dict[str, Any]]:
    """Of each model {role: folder}: outcomes [N] (greater is better), predicted [N] or None, scores, latency, size."""
    store = Store(prepared)
    feed = Feed(store.split(split), None, peers.device)
    found, loaded = {}, {}
    for role, folder in models.items():
        if (classes := exported.class_names(folder)) != store.manifest["classes"]:
            raise Refusal(f"the {role} tells {len(classes)} classes apart, {prepared} has others; prepare its classes")
        task, state = exported.read_model(folder, peers.device)
        scores, predictions = engine.evaluate(task, state, feed, peers)
        outcomes = task.outcomes(predictions, engine.target_columns(task, feed))
        if outcomes is None:
            raise Refusal(
                f"{type(task).__name__}: its '{task.monitor[0]}' is no mean over examples; no gate for it yet"
            )
        found[role] = {
            "outcomes": outcomes * (1 if task.monitor[1] == "max" else -1),
            "predicted": predictions.get("label"),
            "scores": scores,
            "monitor": task.monitor[0],
            "megabytes": (Path(folder) / exported.WEIGHTS_FILE).stat().st_size / 1e6,
        }
        loaded[role] = task, state
    if peers.rank == 0:
        batch = next(feed.batches(1))
        for role, milliseconds in measure_latencies(loaded, batch).items():
            found[role]["latency_ms"] = milliseconds
    return found


@torch.no_grad()
def measure_latencies(models: dict[str, tuple[Task, State]], batch: Batch) -> dict[str, float]:
    """Median milliseconds of one prediction of `batch`, the models taking turns."""
    seconds: dict[str, list[float]] = {role: [] for role in models}
    for _ in range(WARM + ROUNDS):
        for role, (task, state) in models.items():
            began = time.perf_counter()
            for values in task.predict(state, batch).values():
                values.cpu()  # which waits for a GPU
            seconds[role].append(time.perf_counter() - began)
    return {role: 1000 * median(found[WARM:]) for role, found in seconds.items()}
