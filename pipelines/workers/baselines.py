"""Score answers that nothing was learned for, with which a trained model's score is compared."""

from __future__ import annotations

from typing import Any

import torch

from components.recipes import recipe
from components.storage.feed import Feed
from components.storage.store import Store
from components.training import evaluation
from components.training.task import Task
from pipelines.workers.training import read_spec


def score_baselines(section: dict[str, Any], prepared: str, augmented: str, seed: int) -> dict[str, float]:
    """Return {baseline: its monitored score} on the split kept for the end.

    untrained: the model of the section `task` as `setup` builds it. constant: the best answer that ignores its input,
    where the task has one (`Task.constant`).
    """
    task: Task = recipe.build(section, Task)
    store = Store(prepared)
    feed, train = Feed(store.split(store.final_split)), Feed(store.split("train"))
    torch.manual_seed(seed)
    state = task.setup(read_spec(prepared, augmented))
    scores = {"untrained": evaluation.evaluate(task, state, feed)[0]}
    if (constant := task.constant(evaluation.target_columns(task, train), len(feed))) is not None:
        scores["constant"] = task.score(constant, evaluation.target_columns(task, feed))
    return {name: float(values[task.monitor[0]]) for name, values in scores.items()}
