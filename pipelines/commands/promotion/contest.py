"""Compare models on a worker: outcomes on the same held-out examples, latency and size.

`retrain` names `measure_models` by its dotted path, so that only the workers import torch.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

import numpy as np
import torch

from components.errors import Refusal
from components.storage.feed import Feed
from components.storage.store import Store
from components.training import evaluation, exported
from components.training.peers import Peers
from components.training.task import Batch, State, Task
from pipelines.commands.promotion.measurement import Measurement

TIMED_ROUNDS = 50
WARMUP_ROUNDS = 5


def measure_models(
    peers: Peers, models: dict[str, str], prepared: str, split: str, rows: np.ndarray
) -> dict[str, Measurement]:
    """Return {role: measurement} of `models` {role: folder} on the `rows` of a split of the prepared data.

    Only rank 0 measures latency. Raise Refusal if a model was trained on other classes, or if its monitored score is
    not a mean over examples.
    """
    store = Store(prepared)
    feed = Feed(store.split(split), rows, peers.device)
    measurements: dict[str, Measurement] = {}
    loaded = {}
    for role, folder in models.items():
        classes = exported.class_names(folder)
        if classes != store.manifest["classes"]:
            raise Refusal(
                f"the {role} was trained on {len(classes)} classes that differ from those in {prepared};"
                " prepare the same classes"
            )
        task, state = exported.read_model(folder, peers.device)
        scores, predictions = evaluation.evaluate(task, state, feed, peers)
        outcomes = task.outcomes(predictions, evaluation.target_columns(task, feed))
        monitor, direction = task.monitor
        if outcomes is None:
            raise Refusal(f"{type(task).__name__}: '{monitor}' is not a mean over examples; the gate cannot compare it")
        measurements[role] = Measurement(
            outcomes=outcomes * (1 if direction == "max" else -1),
            predicted=predictions.get("label"),
            scores=scores,
            monitor=monitor,
            megabytes=(Path(folder) / exported.WEIGHTS_FILE).stat().st_size / 1e6,
        )
        loaded[role] = task, state
    if peers.rank == 0:
        batch = next(feed.batches(1))
        for role, milliseconds in measure_latencies(loaded, batch).items():
            measurements[role].latency_ms = milliseconds
    return measurements


@torch.no_grad()
def measure_latencies(models: dict[str, tuple[Task, State]], batch: Batch) -> dict[str, float]:
    """Return {role: median milliseconds per prediction of `batch`}; the models take turns."""
    seconds: dict[str, list[float]] = {role: [] for role in models}
    for _ in range(WARMUP_ROUNDS + TIMED_ROUNDS):
        for role, (task, state) in models.items():
            began = time.perf_counter()
            for values in task.predict(state, batch).values():
                if isinstance(values, torch.Tensor):  # some tasks answer with texts
                    values.cpu()  # waits for the GPU
            seconds[role].append(time.perf_counter() - began)
    return {role: 1000 * median(samples[WARMUP_ROUNDS:]) for role, samples in seconds.items()}
