"""Compute COCO's average precision of boxes and masks from padded arrays."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MOST = 100  # detections per picture that count, as in COCO
OBJECT_COLUMNS = ("boxes", "labels", "instances", "crowd", "crowd_labels")


@dataclass(frozen=True)
class Detections:
    """The detections in B pictures, padded with label -1.

    boxes [B, N, 4]: corners, ends exclusive; scores, labels [B, N]; masks [B, N, H, W]: 0 or 1, for masks alone.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None = None


@dataclass(frozen=True)
class Objects:
    """The objects in B pictures, one array per picture.

    boxes [M, 4] and labels [M]; instances [H, W]: index maps in their order (data/masks.py), for masks alone; crowd
    [C, 4] and crowd_labels [C]: regions where detections of a class count neither as right nor as wrong.
    """

    boxes: Sequence[np.ndarray]
    labels: Sequence[np.ndarray]
    instances: Sequence[np.ndarray] | None = None
    crowd: Sequence[np.ndarray] | None = None
    crowd_labels: Sequence[np.ndarray] | None = None


def detector_scores(
    predictions: dict[str, np.ndarray], targets: dict[str, Any], of_masks: bool = False, prefix: str = ""
) -> dict[str, float]:
    """Return map, map50 and, if anything is not judged, not_judged of `coco_scores` for the columns of a batch.

    predictions: boxes, scores, labels and masks as in `Detections`, their names after `prefix`. targets: boxes, labels
    and, where the data have them, instances, crowd and crowd_labels as in `Objects`.
    """
    boxes, scores, labels = (predictions[f"{prefix}{name}"] for name in ("boxes", "scores", "labels"))
    objects = Objects(**{name: targets[name] for name in OBJECT_COLUMNS if name in targets})
    metrics = coco_scores(Detections(boxes, scores, labels, predictions.get("masks")), objects, of_masks=of_masks)
    return {name: metrics[name] for name in ("map", "map50", "not_judged") if name in metrics}


def coco_scores(
    detections: Detections, objects: Objects, classes: Sequence[str] = (), of_masks: bool = False
) -> dict[str, float]:
    """Return COCO's average precision, computed by pycocotools (Lin et al. 2014), of boxes or `of_masks`.

    "map" is the mean over IoU thresholds 0.5, 0.55, ... 0.95 and classes, "map50" and "map75" those at one threshold,
    and "ap/NAME" that of one of `classes`. Classes without an object are left out; if none has one, all are 0.

    As in COCO, a detection that lies in a crowd of its class is ignored. An object without area, or without a pixel in
    `instances`, cannot be detected and is dropped. Both are counted as "not_judged" where there are any.
    """
    truth, not_judged = _list_objects(objects, of_masks)
    precision = _evaluate(truth, _list_detections(detections, of_masks), len(objects.boxes), of_masks)
    by_class = {label: precision[label] for label in sorted(precision)}
    means = {label: float(values.mean()) for label, values in by_class.items()}
    metrics = {"map": float(np.mean(list(means.values()) or [0.0]))}
    for name, threshold in (("map50", 0), ("map75", 5)):
        metrics[name] = float(np.mean([values[threshold].mean() for values in by_class.values()] or [0.0]))
    metrics |= {f"ap/{name}": means[label] for label, name in enumerate(classes) if label in means}
    return metrics | ({"not_judged": float(not_judged)} if not_judged else {})


def _list_objects(objects: Objects, of_masks: bool) -> tuple[list[dict[str, Any]], int]:
    """Return COCO's records of the objects, and the number of those that are not judged."""
    records = []
    not_judged = 0
    for picture, (boxes, labels) in enumerate(zip(objects.boxes, objects.labels, strict=True)):
        index_map = None if objects.instances is None else np.asarray(objects.instances[picture])
        for place, (box, label) in enumerate(zip(boxes, labels, strict=True)):
            mask = index_map == place + 1 if of_masks and index_map is not None else None
            record = _record(picture, label, box, mask)
            if record["area"] > 0:
                records.append(record)
            else:
                not_judged += 1
        if objects.crowd is None or objects.crowd_labels is None:
            continue
        for box, label in zip(objects.crowd[picture], objects.crowd_labels[picture], strict=True):
            mask = _fill_box(box, index_map.shape) if of_masks and index_map is not None else None
            records.append(_record(picture, label, box, mask) | {"iscrowd": 1})
            not_judged += 1
    return records, not_judged


def _list_detections(detections: Detections, of_masks: bool) -> list[dict[str, Any]]:
    """Return COCO's records of the detections."""
    records = []
    for picture, place in zip(*np.nonzero(np.asarray(detections.labels) >= 0), strict=True):
        mask = detections.masks[picture, place] > 0 if of_masks and detections.masks is not None else None
        record = _record(int(picture), detections.labels[picture, place], detections.boxes[picture, place], mask)
        records.append(record | {"score": float(detections.scores[picture, place])})
    return records


def _record(picture: int, label: Any, box: np.ndarray, mask: np.ndarray | None) -> dict[str, Any]:
    """Return COCO's record of a box (corners [4]), or of its mask [H, W]."""
    from pycocotools import mask as coco

    x1, y1, x2, y2 = (float(side) for side in box)
    record: dict[str, Any] = {"image_id": picture, "category_id": int(label), "iscrowd": 0}
    record |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": max(0.0, x2 - x1) * max(0.0, y2 - y1)}
    if mask is not None:
        record |= {"segmentation": coco.encode(np.asfortranarray(mask, np.uint8)), "area": float(mask.sum())}
    return record


def _fill_box(box: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the mask [H, W] of the pixels in a box."""
    x1, y1, x2, y2 = np.rint(box).astype(int).clip(0)
    mask = np.zeros(shape, bool)
    mask[y1:y2, x1:x2] = True
    return mask


def _evaluate(
    truth: list[dict[str, Any]], detected: list[dict[str, Any]], pictures: int, of_masks: bool
) -> dict[int, np.ndarray]:
    """Return {label: precision [10 IoU thresholds, 101 recalls]} of the classes that have objects."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    labels = sorted({record["category_id"] for record in [*truth, *detected]})
    if not truth:
        return {}
    with contextlib.redirect_stdout(io.StringIO()):
        sides = []
        for records in (truth, detected):
            side = COCO()
            side.dataset = {
                "images": [{"id": picture, "height": 0, "width": 0} for picture in range(pictures)],
                "categories": [{"id": label} for label in labels],
                "annotations": [record | {"id": number} for number, record in enumerate(records, 1)],
            }
            side.createIndex()
            sides.append(side)
        evaluation = COCOeval(*sides, "segm" if of_masks else "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [MOST]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 0]  # -1 for a class without objects that are judged
    return {label: precision[:, :, place] for place, label in enumerate(labels) if precision[0, 0, place] >= 0}
