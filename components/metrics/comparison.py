"""Two arms on the same test examples: their accuracies, and whether the difference could be luck."""

from __future__ import annotations

import numpy as np

from .classification import bootstrap_interval


def accuracy_summary(correct: np.ndarray, level: float = 0.95, draws: int = 2000) -> dict[str, float]:
    """correct [seeds, N] of 0/1 -> mean, its bootstrap interval over examples, standard deviation over seeds."""
    low, high = bootstrap_interval(correct.mean(0), level, draws)
    by_seed = correct.mean(1)
    spread = float(by_seed.std(ddof=1)) if len(by_seed) > 1 else 0.0
    return {"accuracy": float(by_seed.mean()), "low": low, "high": high, "std": spread}


def gain(ours: np.ndarray, theirs: np.ndarray, level: float = 0.95, draws: int = 2000) -> dict[str, float]:
    """Mean difference of two arms [seeds, N] with a *paired* bootstrap interval over examples, and seeds won."""
    difference = ours.mean(0) - theirs.mean(0)
    low, high = bootstrap_interval(difference, level, draws)
    won = int((ours.mean(1) > theirs.mean(1)).sum())
    return {"gain": float(difference.mean()), "gain_low": low, "gain_high": high, "seeds_won": won}
