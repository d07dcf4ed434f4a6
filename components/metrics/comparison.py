"""Compare two arms on the same test examples, with confidence intervals."""

from __future__ import annotations

import numpy as np

from .classification import bootstrap_interval


def accuracy_summary(correct: np.ndarray, level: float = 0.95, draws: int = 2000) -> dict[str, float]:
    """Summarise correct [seeds, N], 0 or 1: mean, its bootstrap interval over examples, deviation over seeds."""
    low, high = bootstrap_interval(correct.mean(0), level, draws)
    by_seed = correct.mean(1)
    std = float(by_seed.std(ddof=1)) if len(by_seed) > 1 else 0.0
    return {"accuracy": float(by_seed.mean()), "low": low, "high": high, "std": std}


def gain(ours: np.ndarray, baseline: np.ndarray, level: float = 0.95, draws: int = 2000) -> dict[str, float]:
    """Return the mean lead of `ours` over `baseline`, scores [seeds, N] of the same examples.

    Its bootstrap interval is *paired*: it resamples the differences per example. "seeds_won" counts the seeds in which
    `ours` has the better mean.
    """
    difference = ours.mean(0) - baseline.mean(0)
    low, high = bootstrap_interval(difference, level, draws)
    won = int((ours.mean(1) > baseline.mean(1)).sum())
    return {"gain": float(difference.mean()), "gain_low": low, "gain_high": high, "seeds_won": won}


def constant_accuracy(train: np.ndarray, truth: np.ndarray) -> float:
    """Return the accuracy on labels `truth` [N] of always answering the most frequent label of `train` [M]."""
    labels, counts = np.unique(train, return_counts=True)
    return float((truth == labels[counts.argmax()]).mean())
