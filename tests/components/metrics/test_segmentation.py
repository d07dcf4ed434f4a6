"""Pixel accuracy and intersection over union, against a count by sets and torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from components.metrics.segmentation import count_pixels, segmentation_scores

NAMES = ["background", "a", "b", "c", "d"]


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw masks of 70 pictures whose values are often right; a tenth of the pixels is not judged, and d is absent."""
    random = np.random.default_rng(seed)
    true = random.integers(0, 4, (70, 9, 11)).astype(np.uint8)
    predicted = np.where(random.random(true.shape) < 0.6, true, random.integers(0, 5, true.shape)).astype(np.uint8)
    true[random.random(true.shape) < 0.1] = 255
    return predicted, true


@pytest.mark.parametrize("seed", [0, 1])
def test_scores_match_sets_of_pixels_and_torchmetrics(seed: int) -> None:
    predicted, true = drawn(seed)
    scores = segmentation_scores(predicted, true, NAMES)
    judged = true != 255
    assert scores["pixel_accuracy"] == pytest.approx((predicted == true)[judged].mean())
    for value, name in enumerate(NAMES[:4]):
        a, b = (predicted == value) & judged, true == value
        assert scores[f"iou/{name}"] == pytest.approx((a & b).sum() / (a | b).sum())
    assert "iou/d" not in scores
    assert scores["mean_iou"] == pytest.approx(np.mean([scores[f"iou/{name}"] for name in NAMES[:4]]))
    pair = torch.from_numpy(predicted).long(), torch.from_numpy(true).long()
    each = MulticlassJaccardIndex(5, average=None, ignore_index=255)(*pair)
    assert [scores[f"iou/{name}"] for name in NAMES[:4]] == pytest.approx(each[:4].tolist(), abs=1e-6)
    accuracy = MulticlassAccuracy(5, average="micro", ignore_index=255)(*pair)
    assert scores["pixel_accuracy"] == pytest.approx(accuracy.item(), abs=1e-6)


def test_counts_by_hand() -> None:
    true, predicted = np.array([[[0, 0, 1, 255]]], np.uint8), np.array([[[0, 1, 1, 2]]], np.uint8)
    assert count_pixels(predicted, true, 3).tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    scores = segmentation_scores(predicted, true, ["background", "a", "b"])
    assert scores == {"pixel_accuracy": pytest.approx(2 / 3), "mean_iou": 0.5, "iou/background": 0.5, "iou/a": 0.5}


def test_pictures_without_a_judged_pixel_score_0() -> None:
    nothing = np.full((2, 3, 3), 255, np.uint8)
    assert segmentation_scores(np.zeros_like(nothing), nothing, NAMES) == {"pixel_accuracy": 0, "mean_iou": 0}
