"""Average precision from padded arrays matches pycocotools and a count by hand, and prints nothing."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchmetrics.detection import MeanAveragePrecision

from components.data.masks import trace_boxes
from components.metrics.detection import Detections, Objects, coco_scores, detector_scores


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


def average_precision(
    boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, true: list[np.ndarray], kinds: list[np.ndarray]
) -> dict[str, float]:
    detections = {"boxes": boxes, "scores": scores, "labels": labels}
    return detector_scores(detections, {"boxes": true, "labels": kinds})


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


def with_masks(seed: int) -> tuple[Detections, Objects]:
    """Draw index maps of 8 pictures, and detected masks: of the object, moved, of another class, or of nothing."""
    random = np.random.default_rng(seed)
    masks, scores = np.zeros((8, 7, 32, 32), np.uint8), np.zeros((8, 7), np.float32)
    labels, boxes = np.full((8, 7), -1), np.zeros((8, 7, 4), np.float32)
    maps, true_boxes, true_labels, crowd, crowd_labels = [], [], [], [], []
    for row in range(8):
        instances = np.zeros((32, 32), np.int16)
        for number in range(1, random.integers(1, 6) + 1):
            y, x = random.integers(0, 22, 2)
            instances[y : y + random.integers(4, 10), x : x + random.integers(4, 10)] = number
        instances = np.unique(instances, return_inverse=True)[1].reshape(32, 32).astype(np.int16)
        kinds = random.integers(0, 3, instances.max())
        maps.append(instances)
        true_labels.append(kinds)
        true_boxes.append(trace_boxes(instances, len(kinds)))
        crowd.append(np.array([[0, 0, 16, 32]], np.float32)[: row % 2])
        crowd_labels.append(np.array([1])[: row % 2])
        for place, kind in enumerate(kinds):
            masks[row, place] = np.roll(instances == place + 1, random.integers(0, 3), 1)
            labels[row, place] = kind if random.random() < 0.8 else (kind + 1) % 3
            scores[row, place] = random.random()
        masks[row, 6, 2:9, 2:9], labels[row, 6], scores[row, 6] = 1, 1, random.random()
        boxes[row] = trace_all(masks[row])
    return Detections(boxes, scores, labels, masks), Objects(true_boxes, true_labels, maps, crowd, crowd_labels)


def trace_all(masks: np.ndarray) -> np.ndarray:
    return np.concatenate([trace_boxes(mask, 1) for mask in masks])


@pytest.mark.parametrize("of_masks", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_boxes_masks_and_crowds_match_torchmetrics(
    seed: int, of_masks: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    detections, objects = with_masks(seed)
    metric = MeanAveragePrecision(
        iou_type="segm" if of_masks else "bbox",
        iou_thresholds=np.linspace(0.5, 0.95, 10).tolist(),
        rec_thresholds=np.linspace(0, 1, 101).tolist(),
        class_metrics=True,
        backend="pycocotools",
    )
    for row in range(8):
        real = detections.labels[row] >= 0
        ignored = np.concatenate([np.zeros(len(objects.labels[row])), np.ones(len(objects.crowd[row]))])
        true_masks = [objects.instances[row] == place + 1 for place in range(len(objects.labels[row]))]
        for box in objects.crowd[row].astype(int):
            true_masks.append(np.zeros((32, 32), bool))
            true_masks[-1][box[1] : box[3], box[0] : box[2]] = True
        metric.update(
            [
                {
                    "boxes": torch.from_numpy(detections.boxes[row][real]),
                    "masks": torch.from_numpy(detections.masks[row][real]).bool(),
                    "scores": torch.from_numpy(detections.scores[row][real]),
                    "labels": torch.from_numpy(detections.labels[row][real]),
                }
            ],
            [
                {
                    "boxes": torch.from_numpy(np.concatenate([objects.boxes[row], objects.crowd[row]])),
                    "masks": torch.from_numpy(np.stack(true_masks)),
                    "labels": torch.from_numpy(np.concatenate([objects.labels[row], objects.crowd_labels[row]])),
                    "iscrowd": torch.from_numpy(ignored).long(),
                }
            ],
        )
    expected = metric.compute()
    capfd.readouterr()
    result = coco_scores(detections, objects, ["a", "b", "c"], of_masks)
    assert capfd.readouterr().out == ""
    assert result["not_judged"] == 4
    pairs = {"map": "map", "map50": "map_50", "map75": "map_75"}
    assert {name: result[name] for name in pairs} == pytest.approx(
        {name: float(expected[other]) for name, other in pairs.items()}, abs=1e-6
    )
    assert [result[f"ap/{name}"] for name in "abc"] == pytest.approx(expected["map_per_class"].tolist(), abs=1e-6)
    assert 0.05 < result["map"] < result["map50"] < 1


def test_precision_by_brute_force() -> None:
    """Match by hand, without pycocotools: best score first, each to the best free object of its class."""
    true_boxes, true_labels, boxes, scores, labels = drawn(5)
    expected = []
    for kind in range(3):
        hits, count = [], sum(int((kinds == kind).sum()) for kinds in true_labels)
        used: set[tuple[int, int]] = set()
        places = sorted(zip(*np.nonzero(labels == kind), strict=True), key=lambda place: -scores[place])
        for row, place in places:
            overlaps = [
                overlap(boxes[row, place], box) if true_labels[row][m] == kind and (row, m) not in used else 0
                for m, box in enumerate(true_boxes[row])
            ]
            best = int(np.argmax(overlaps)) if overlaps else -1
            hits.append(best >= 0 and overlaps[best] >= 0.5)
            if hits[-1]:
                used.add((row, best))
        right = np.cumsum(hits)
        precision, recall = right / np.arange(1, len(hits) + 1), right / count
        expected.append(np.mean([max(precision[recall >= level], default=0) for level in np.linspace(0, 1, 101)]))
    result = average_precision(boxes, scores, labels, true_boxes, true_labels)
    assert result["map50"] == pytest.approx(np.mean(expected), abs=1e-6)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = float(np.prod(sides.clip(0)))
    return shared / (float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - shared)


def test_objects_without_area_are_dropped_and_counted() -> None:
    """Check that a box without area costs no recall, and that a detection in a crowd is not wrong."""
    boxes = np.array([[[0, 0, 10, 10], [21, 21, 29, 29]]], np.float32)
    detections = Detections(boxes, np.array([[0.5, 0.9]]), np.array([[0, 0]]))
    true = [np.array([[0, 0, 10, 10], [5, 5, 5, 9]], np.float32)]
    plain = coco_scores(detections, Objects(true, [np.array([0, 0])]))
    assert plain["not_judged"] == 1
    assert plain["map"] == pytest.approx(0.5)
    crowd = Objects(true, [np.array([0, 0])], None, [np.array([[20, 20, 40, 40]], np.float32)], [np.array([0])])
    assert coco_scores(detections, crowd) == pytest.approx({"map": 1, "map50": 1, "map75": 1, "not_judged": 2})
    other_class = Objects(true, [np.array([0, 0])], None, crowd.crowd, [np.array([1])])
    assert coco_scores(detections, other_class)["map"] == pytest.approx(0.5)
