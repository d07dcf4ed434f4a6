"""Score a classifier on a split, and estimate the uncertainty of a mean."""

from __future__ import annotations

import numpy as np


def classification_scores(probability: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Return accuracy and cross-entropy loss of probability [N, K] for the true label [N]."""
    of_label = probability[np.arange(len(label)), label].astype(np.float64)
    return {
        "accuracy": float((probability.argmax(1) == label).mean()),
        "loss": float(-np.log(np.maximum(of_label, 1e-12)).mean()),
    }


def constant_classes(labels: np.ndarray, classes: int, count: int) -> dict[str, np.ndarray]:
    """Return `count` rows of the best answer that ignores its input, from the labels [N] of the training split.

    They are {"label": the most frequent class, "probability": the frequencies [count, K]}.
    """
    share = np.bincount(labels, minlength=classes) / len(labels)
    probability = np.tile(share, (count, 1))
    return {"label": probability.argmax(1), "probability": probability}


def class_scores(predicted: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Return macro_f1, macro_precision and macro_recall: means over the classes that occur in predicted or label [N].

    A class that is never predicted has precision 0, one without an example has recall 0, as in scikit-learn.
    """
    counts = confusion_counts(predicted, label, int(max(predicted.max(), label.max())) + 1)
    hits, answers, truths = np.diag(counts).astype(np.float64), counts.sum(0), counts.sum(1)
    present = answers + truths > 0
    precision = hits / np.maximum(answers, 1)
    recall = hits / np.maximum(truths, 1)
    f1 = 2 * hits / np.maximum(answers + truths, 1)
    return {
        "macro_f1": float(f1[present].mean()),
        "macro_precision": float(precision[present].mean()),
        "macro_recall": float(recall[present].mean()),
    }


def confusion_counts(predicted: np.ndarray, label: np.ndarray, classes: int) -> np.ndarray:
    """Return the counts int64 [classes, classes] of label [N] (rows) and predicted [N] (columns)."""
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (label, predicted), 1)
    return counts


def bootstrap_interval(
    values: np.ndarray, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile interval of the mean of values [N] over `draws` resamplings (Efron 1979)."""
    random = np.random.default_rng(seed)
    values = np.asarray(values, dtype=np.float64)
    means = np.array([values[random.integers(0, len(values), len(values))].mean() for _ in range(draws)])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
