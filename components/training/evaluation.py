"""Evaluate: predict all rows of a feed in batches that the workers share, and score the predictions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ..storage.feed import Feed
from .memory import predict_within_memory, refuse_lack_of_memory
from .meter import Scores
from .peers import Peers
from .task import Batch, State, Task


@torch.no_grad()
def evaluate(
    task: Task, state: State, feed: Feed, peers: Peers | None = None, batch: int = 512
) -> tuple[Scores, dict[str, np.ndarray]]:
    """Return (scores, predictions {name: [N, ...]}) in the order of the rows; batches do not depend on the workers.

    Out of memory, a batch is predicted in halves, which are cut where that does not change the predictions.
    """
    peers = peers or Peers()
    view = State(state.modules | state.averages, tables=state.tables, step=state.step)
    for module in view.modules.values():
        module.eval()

    def predict(part: Batch) -> dict[str, np.ndarray]:
        """Return the predictions for one batch on the host."""
        return predict_within_memory(task, view, part)

    with refuse_lack_of_memory():
        parts = map_batches(peers, feed, batch, predict)
        predictions = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return task.score(predictions, target_columns(task, feed)), predictions


def target_columns(task: Task, feed: Feed) -> dict[str, Any]:
    """Return the columns of all rows that the task's scores and pictures need."""
    extras = [name for name in task.extras if name in feed.split.columns]
    return {name: feed.column(name) for name in (*task.targets, *extras)}


def map_batches(peers: Peers, feed: Feed, size: int, function: Callable[[Batch], Any]) -> list[Any]:
    """Return what `function` returns for each batch of `feed`, in order, on every worker; they share the batches."""
    results = peers.gather([function(part) for part in feed.batches(size, peers.rank, peers.size)])
    return [results[i % peers.size][i // peers.size] for i in range(sum(map(len, results)))]
