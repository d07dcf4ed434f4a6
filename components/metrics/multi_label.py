"""Score the prediction of several tags per example."""

from __future__ import annotations

import numpy as np


def multi_label_scores(probability: np.ndarray, labels: np.ndarray, threshold: float = 0.5) -> dict[str, float]:
    """Return scores of probability [N, K] for the true tags [N, K] of 0 and 1.

    map: mean over the tags that occur of the average precision. micro_f1: F1 over all tags of all examples. macro_f1:
    mean of F1 over the tags; 0 for one that neither occurs nor is predicted, as in scikit-learn. exact_match: share of
    examples whose tags are all correct. loss: binary cross-entropy.
    """
    truth = labels.astype(bool)
    answer = probability > threshold
    hits = (truth & answer).sum(0)
    total = truth.sum(0) + answer.sum(0)
    p = np.clip(probability.astype(np.float64), 1e-12, 1 - 1e-12)
    values = average_precisions(probability, labels)
    return {
        "map": float(np.nanmean(values)) if not np.isnan(values).all() else 0.0,
        "micro_f1": float(2 * hits.sum() / max(1, total.sum())),
        "macro_f1": float((2 * hits / np.maximum(total, 1)).mean()),
        "exact_match": float((truth == answer).all(1).mean()),
        "loss": float(-np.where(truth, np.log(p), np.log(1 - p)).mean()),
    }


def average_precisions(probability: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the average precision of each tag [K]: the sum over thresholds of precision times the gain in recall.

    Examples of equal probability are one threshold. NaN for a tag that no example has.
    """
    values = np.full(labels.shape[1], np.nan)
    for tag in range(labels.shape[1]):
        truth = labels[:, tag].astype(bool)
        if not truth.any():
            continue
        order = np.argsort(-probability[:, tag], kind="stable")
        scores = probability[order, tag]
        hits = np.cumsum(truth[order])
        last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # of each group of equal scores
        recall = hits[last] / truth.sum()
        precision = hits[last] / (last + 1)
        values[tag] = float(np.sum(np.diff(recall, prepend=0.0) * precision))
    return values
