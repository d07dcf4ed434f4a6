"""Compute COCO's mean average precision from padded arrays."""

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
    """Return the mean average precision of the detections in B pictures, computed by pycocotools (Lin et al. 2014).

    boxes [B, N, 4] (corners), scores [B, N], labels [B, N]: the detections, padded with label -1. true_boxes [M, 4],
    true_labels [M]: the objects of each picture. "map" is the mean over IoU thresholds 0.5, 0.55, ... 0.95 and classes,
    "map50" that at 0.5 only. Classes without a true box are ignored; if no class has one, both are 0.
    """
    import torch
    from torchmetrics.detection import MeanAveragePrecision

    # COCO's exact numbers: torchmetrics rounds its defaults to float32, where a recall of 0.2 is below 0.2.
    thresholds = np.linspace(0.5, 0.95, 10).tolist()
    recalls = np.linspace(0, 1, 101).tolist()
    metric = MeanAveragePrecision(iou_thresholds=thresholds, rec_thresholds=recalls, backend="pycocotools")
    for box, score, label, true_box, true_label in zip(boxes, scores, labels, true_boxes, true_labels, strict=True):
        real = label >= 0  # the rest is padding
        detections = {
            "boxes": torch.from_numpy(box[real]),
            "scores": torch.from_numpy(score[real]),
            "labels": torch.from_numpy(label[real]),
        }
        objects = {"boxes": torch.as_tensor(true_box), "labels": torch.as_tensor(true_label)}
        metric.update([detections], [objects])
    values = metric.compute()
    # pycocotools returns -1 if there is no true box.
    return {"map": max(0.0, float(values["map"])), "map50": max(0.0, float(values["map_50"]))}
