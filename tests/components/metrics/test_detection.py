"""Average precision from padded arrays matches pycocotools and a count by hand, and prints nothing."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from components.metrics.detection import average_precision


def drawn(seed: int) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    """Draw truth and padded detections of 12 pictures: some are right, moved, of the wrong class, or missing."""
    random = np.random.default_rng(seed)
    boxes, scores, labels = np.zeros((12, 10, 4), np.float32), np.zeros((12, 10), np.float32), np.full((12, 10), -1)
    true_boxes, true_labels = [], []
    for row in range(12):
        first = random.uniform(0, 60, (random.integers(0, 6), 2))
        true = np.concatenate([first, first + random.uniform(5, 30, first.shape)], 1).astype(np.float32)
        kind = random.integers(0, 3, len(true))
        true_boxes.append(true)
        true_labels.append(kind)
        for place, (box, label) in enumerate(zip(true, kind, strict=True)):
            if random.random() < 0.8:
                boxes[row, place] = box + random.normal(0, 2, 4)
                labels[row, place] = label if random.random() < 0.8 else (label + 1) % 3
                scores[row, place] = random.random()
        boxes[row, 8], labels[row, 8], scores[row, 8] = [0, 0, 9, 9], 1, random.random()
    return true_boxes, true_labels, boxes, scores, labels


def reference(true_boxes, true_labels, boxes, scores, labels) -> tuple[float, float]:
    """Compute the scores by pycocotools, from boxes as [x, y, width, height]."""
    sized = lambda box: [float(v) for v in (box[0], box[1], box[2] - box[0], box[3] - box[1])]  # noqa: E731
    annotations, detections = [], []
    for row in range(len(boxes)):
        for box, label in zip(true_boxes[row], true_labels[row], strict=True):
            area = float((box[2] - box[0]) * (box[3] - box[1]))
            annotations.append(
                {"id": len(annotations) + 1, "image_id": row, "category_id": int(label), "bbox": sized(box)}
                | {"area": area, "iscrowd": 0}
            )
        for box, score, label in zip(boxes[row], scores[row], labels[row], strict=True):
            if label >= 0:
                detections.append(
                    {"image_id": row, "category_id": int(label), "bbox": sized(box), "score": float(score)}
                )
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": row} for row in range(len(boxes))],
            "categories": [{"id": label} for label in range(3)],
            "annotations": annotations,
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(detections), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[0], evaluation.stats[1]


@pytest.mark.parametrize("seed", [0, 2, 8])
def test_it_matches_pycocotools_without_the_padding(seed: int, capfd: pytest.CaptureFixture[str]) -> None:
    true_boxes, true_labels, boxes, scores, labels = drawn(seed)
    result = average_precision(boxes, scores, labels, true_boxes, true_labels)
    assert capfd.readouterr().out == ""
    expected = reference(true_boxes, true_labels, boxes, scores, labels)
    assert (result["map"], result["map50"]) == pytest.approx(expected, abs=1e-6)
    assert 0.1 < result["map"] < result["map50"] < 1


def test_by_hand() -> None:
    """One of two objects is detected at an IoU of 0.81, before a false one: precision 1 up to a recall of 0.5."""
    true = [np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32)]
    boxes = np.array([[[0, 0, 9, 9], [50, 50, 60, 60], [0, 0, 0, 0]]], np.float32)
    scores, labels = np.array([[0.9, 0.5, 0]], np.float32), np.array([[0, 0, -1]])
    result = average_precision(boxes, scores, labels, true, [np.array([0, 0])])
    half = 51 / 101  # COCO reads precision at recalls 0, 0.01, ... 1
    assert result["map50"] == pytest.approx(half)
    assert result["map"] == pytest.approx(half * 0.7)  # thresholds 0.5 ... 0.8


def test_perfect_and_empty() -> None:
    true, kind = [np.array([[0, 0, 10, 10]], np.float32)], [np.array([2])]
    exact = average_precision(true[0][None], np.ones((1, 1), np.float32), kind[0][None], true, kind)
    assert exact == {"map": pytest.approx(1), "map50": pytest.approx(1)}
    nothing = np.zeros((1, 1, 4), np.float32), np.zeros((1, 1), np.float32), np.full((1, 1), -1)
    assert average_precision(*nothing, true, kind) == {"map": 0, "map50": 0}
    none = [np.zeros((0, 4), np.float32)], [np.zeros(0, np.int64)]
    assert average_precision(*nothing, *none) == {"map": 0, "map50": 0}
