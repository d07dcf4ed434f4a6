"""Repeat facts about a state, such as an eigenvalue, in each row of the predictions.

`Task.score` sees predictions and targets alone; scores that follow from the state reach it in this way.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor


def repeat_facts(predictions: dict[str, Tensor], facts: dict[str, float]) -> dict[str, Tensor]:
    """Return the predictions with each fact in every row: float64 [B]."""
    first = next(iter(predictions.values()))
    rows = torch.ones(len(first), dtype=torch.float64, device=first.device)
    return predictions | {name: rows * value for name, value in facts.items()}


def read_facts(predictions: dict[str, np.ndarray], names: Iterable[str]) -> dict[str, float]:
    """Return {name: fact} from the first row."""
    return {name: float(predictions[name][0]) for name in names}


def zero_facts(names: Iterable[str], count: int) -> dict[str, np.ndarray]:
    """Return the facts of a constant answer to `count` rows, which has no state: zeros."""
    return dict.fromkeys(names, np.zeros(count))
