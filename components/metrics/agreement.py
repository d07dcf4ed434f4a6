"""Measure the agreement of two columns as GLUE does: Matthews, F1, Pearson and Spearman."""

from __future__ import annotations

import numpy as np


def matthews_correlation(predicted: np.ndarray, label: np.ndarray) -> float:
    """Return the correlation of two classifications [N] with any number of classes (Gorodkin 2004).

    It is 0 if one of them is constant.
    """
    classes = np.union1d(predicted, label)
    first, second = ((values[:, None] == classes).astype(np.float64) for values in (predicted, label))
    first, second = first - first.mean(0), second - second.mean(0)
    scale = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / scale) if scale else 0.0


def f1_score(predicted: np.ndarray, label: np.ndarray) -> float:
    """Return the harmonic mean of precision and recall of class 1 in two columns [N], 0 if it is never right."""
    correct = int(((predicted == 1) & (label == 1)).sum())
    total = int((predicted == 1).sum()) + int((label == 1).sum())
    return 2 * correct / total if total else 0.0


def pearson_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return the linear correlation of two columns [N], 0 if one is constant."""
    first = first.astype(np.float64) - first.mean(dtype=np.float64)
    second = second.astype(np.float64) - second.mean(dtype=np.float64)
    scale = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / scale) if scale else 0.0


def spearman_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return the correlation of the ranks of two columns [N]; equal values share the mean of their ranks."""
    return pearson_correlation(_ranks(first), _ranks(second))


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[inverse]
