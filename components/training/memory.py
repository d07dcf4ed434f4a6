"""Lack of memory: recognise it, and predict smaller batches when an evaluation or a served model runs out of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from ..errors import Refusal, pluralize
from .task import Batch, State, Task


def is_out_of_memory(error: Exception) -> bool:
    """Return whether a host or a GPU ran out of memory, which torch reports in several ways."""
    texts = ("not enough memory", "can't allocate memory", "out of memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(text in str(error) for text in texts)


def predict_within_memory(task: Task, state: State, batch: Batch) -> dict[str, np.ndarray]:
    """Return the predictions for a batch on the host; out of memory, predict its halves one after the other.

    Each batch is tried as it is, so that the predictions do not depend on the batches that this worker had before.
    Raise Refusal if the memory does not suffice for a part that cannot be cut.
    """
    try:
        return {name: to_host(values) for name, values in task.predict(state, batch).items()}
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    # outside of `except`: the error, and the tensors that its traceback held, are freed by now
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    rows = len(next(iter(batch.values())))
    middle = _middle(task, batch, rows)
    if middle == 0:
        raise Refusal(
            f"evaluation: there is too little memory to predict {pluralize(rows, 'example')} at once, and"
            " fewer are not possible; use a smaller model or give the worker more memory"
        )
    halves = [{name: values[cut] for name, values in batch.items()} for cut in (slice(middle), slice(middle, None))]
    parts = [predict_within_memory(task, state, half) for half in halves]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def to_host(values: Tensor | np.ndarray | list[str]) -> np.ndarray:
    """Return a tensor, or texts, as an array on the host."""
    return values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _middle(task: Task, batch: Batch, rows: int) -> int:
    """Return where to cut a batch of `rows` examples in two, or 0 if it cannot be cut without other predictions."""
    if not task.sequential or "row" not in batch:
        return rows // 2
    cuts = np.flatnonzero(np.diff(batch["row"].cpu().numpy()) != 1) + 1
    return int(min(cuts, key=lambda cut: abs(cut - rows // 2), default=0))


@contextmanager
def refuse_lack_of_memory() -> Iterator[None]:
    """Raise Refusal where an evaluation runs out of memory, so that a search does not take it for one of training."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise Refusal(
            "evaluation: there is too little memory for the examples or their scores; evaluate on fewer examples or"
            " give the worker more memory"
        ) from None
