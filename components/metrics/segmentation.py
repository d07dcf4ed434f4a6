"""Compute pixel accuracy and intersection over union of predicted masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..data.masks import IGNORED

BLOCK = 64  # pictures counted at once


def count_pixels(predicted: np.ndarray, true: np.ndarray, values: int) -> np.ndarray:
    """Return how many pixels of each true value (row) have each predicted value (column): int64 [values, values].

    predicted, true: masks of the same shape with values below `values`; pixels that are IGNORED in `true` do not count.
    """
    counts = np.zeros(values * values, np.int64)
    for first in range(0, len(true), BLOCK):
        part = true[first : first + BLOCK].ravel()
        judged = part != IGNORED
        pairs = part[judged].astype(np.int64) * values + predicted[first : first + BLOCK].ravel()[judged]
        counts += np.bincount(pairs, minlength=values * values)
    return counts.reshape(values, values)


def segmentation_scores(predicted: np.ndarray, true: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Return pixel_accuracy, mean_iou and iou/NAME of masks uint8 [N, H, W] (data/masks.py).

    classes: names of the values 0, 1, ... in the masks, so the background's first. mean_iou is the mean over the values
    that occur in `true`; the others have no iou.
    """
    counts = count_pixels(predicted, true, len(classes))
    right = counts.diagonal()
    occurs = counts.sum(1) > 0
    union = counts.sum(0) + counts.sum(1) - right
    iou = right[occurs] / union[occurs]
    scores = {
        "pixel_accuracy": float(right.sum() / max(1, counts.sum())),
        "mean_iou": float(iou.mean()) if len(iou) else 0.0,
    }
    names = [name for name, present in zip(classes, occurs, strict=True) if present]
    return scores | {f"iou/{name}": float(value) for name, value in zip(names, iou, strict=True)}
