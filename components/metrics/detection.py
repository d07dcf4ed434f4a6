"""COCO's mean average precision, from arrays padded to one number of boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def average_precision(
    boxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    true_boxes: Sequence[np.ndarray],
    true_labels: Sequence[np.ndarray],
) -> dict[str, float]:
    """Detections boxes [B, N, 4], scores [B, N], labels [B, N] (-1: none) against boxes [M, 4], labels [M] a picture.

    "map": the mean over IoU thresholds 0.5, 0.55, ... 0.95 and classes; "map50": at 0.5 alone. Both are computed by
    pycocotools (Lin et al. 2014); classes without a true box don't count, and without any both are 0.
    """
    import torch
    from torchmetrics.detection import MeanAveragePrecision

    # COCO's own numbers: torchmetrics' defaults are rounded to float32, where a recall of 0.2 falls short of 0.2
    thresholds, recalls = np.linspace(0.5, 0.95, 10).tolist(), np.linspace(0, 1, 101).tolist()
    metric = MeanAveragePrecision(iou_thresholds=thresholds, rec_thresholds=recalls, backend="pycocotools")
    for box, score, label, true_box, true_label in zip(boxes, scores, labels, true_boxes, true_labels, strict=True):
        found = label >= 0
        metric.update(
            [{n: torch.from_numpy(v[found]) for n, v in (("boxes", box), ("scores", score), ("labels", label))}],
            [{"boxes": torch.as_tensor(true_box), "labels": torch.as_tensor(true_label)}],
        )
    values = metric.compute()
    return {name: max(0.0, float(values[key])) for name, key in (("map", "map"), ("map50", "map_50"))}
