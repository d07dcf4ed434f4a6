"""Propose small detectors and segmentation networks whose sizes follow from the boxes and the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .picture_layouts import propose_fit
from .pictures import PictureFacts

LONGER_SIDE = 128  # pixels of a proposed letterbox
SMALL = 10  # pixels of the median object in it, below which the letterbox is LARGER times as large
LARGER = 1.5
LARGE = 24  # pixels from which a map of an eighth of the sides is fine enough, which takes a third of the time
SIZES = [[0.2, 0.3], [0.4, 0.55], [0.75, 0.9]]  # shares of the shorter side, where there are no boxes
RATIOS = [1.0, 0.6, 1.6]
USUAL = 10  # objects per picture that the default number of detections is made for


def collect_boxes(rows: Sequence[Sequence[float]]) -> np.ndarray:
    """Return the boxes of a picture: width, height, and those of the picture, float64 [N, 4]."""
    return np.array(rows, np.float64).reshape(-1, 4)


def propose_detector(
    data: dict[str, Any], facts: Sequence[PictureFacts], boxes: Sequence[np.ndarray], is_faulty: bool
) -> tuple[dict[str, Any], list[str]]:
    """Return the sections of a recipe for boxes, a small SSD with anchors like the boxes, and the reasons.

    boxes: those of each picture (`collect_boxes`). is_faulty: whether pictures or boxes are to be left out.
    """
    every = np.concatenate([collect_boxes([]), *boxes])
    every = every[(every > 0).all(1)]
    height, width = choose_letterbox(facts)
    sizes, ratios, reasons = SIZES, RATIOS, []
    backbone: dict[str, Any] = {"widths": [16, 32, 64]}
    if len(every):
        scale = np.minimum(width / every[:, 2], height / every[:, 3])
        sides = np.sqrt(every[:, 0] * every[:, 1]) * scale / min(height, width)
        if np.median(sides) * min(height, width) < SMALL:
            height, width = choose_letterbox(facts, LARGER)
        elif np.median(sides) * min(height, width) >= LARGE:
            backbone = {"widths": [8, 16, 32, 64], "halvings": 3}
        sizes, ratios = choose_anchors(sides, every[:, 0] / every[:, 1])
        reasons.append(
            f"size: {[height, width]}, in which the median object has a side of"
            f" {np.median(sides) * min(height, width):.0f} pixels"
        )
        reasons.append("sizes and ratios of the anchors: quantiles of the boxes")
    most = max([len(rows) for rows in boxes], default=0)
    if is_faulty:
        data = data | {"bad": "skip"}
        reasons.append("bad: skip, because some pictures or boxes can't be used (listed above)")
    model = {
        "use": "models.ssd.SSD",
        "backbone": {"use": "models.feature_net.FeatureNet", **backbone},
        "sizes": sizes,
        "ratios": ratios,
    }
    task: dict[str, Any] = {
        "use": "tasks.one_stage.OneStage",
        "model": model,
        "criterion": {"use": "losses.multi_box.MultiBox"},
        "optimizer": {"use": "optimizers.adamw", "lr": 2e-3},
    }
    if most > USUAL:
        task["most"] = 2 * most
        reasons.append(f"most: {2 * most} detections, because a picture has up to {most} objects")
    fit = propose_fit(len(facts), 16, 500)
    return {
        "data": data | {"size": [height, width]},
        "task": task,
        "fit": fit | {"evaluate_every": fit["epochs"]},
    }, reasons


def choose_anchors(sides: np.ndarray, ratios: np.ndarray) -> tuple[list[list[float]], list[float]]:
    """Return three pairs of anchors' sizes, rising, and three ratios of width to height, for boxes of such ones [N]."""
    sizes: list[float] = []
    for side in np.quantile(sides, [0.05, 0.23, 0.41, 0.59, 0.77, 0.95]):
        sizes.append(round(max(float(side), 0.03, 1.15 * sizes[-1] if sizes else 0), 2))
    middle, low, high = (float(number) for number in np.exp(np.quantile(np.log(ratios), [0.5, 0.15, 0.85])))
    shapes = [round(number, 2) for number in (middle, min(low, middle / 1.25), max(high, middle * 1.25))]
    return [sizes[:2], sizes[2:4], sizes[4:]], shapes


def propose_segmentation(data: dict[str, Any], facts: Sequence[PictureFacts], odd: list[str]) -> dict[str, Any]:
    """Return the sections of a recipe for masks: a small fully convolutional network."""
    height, width = choose_letterbox(facts)
    policy = {"bad": "skip"} if odd or any(fact.fault for fact in facts) else {}
    backbone = {"use": "models.resnet.ResNet", "widths": [16, 32, 64], "blocks": 1, "stem": "cifar"}
    return {
        "data": data | {"size": [height, width]} | policy,
        "task": {
            "use": "tasks.segmentation.Segmentation",
            "model": {"use": "models.fcn.FCN", "backbone": backbone, "skips": 1},
            "optimizer": {"use": "optimizers.adamw", "lr": 3e-3},
        },
        "fit": propose_fit(len(facts), 8, 250),
    }


def choose_letterbox(facts: Sequence[PictureFacts], scale: float = 1.0) -> tuple[int, int]:
    """Return height and width, multiples of 32 up to scale * LONGER_SIDE, in the pictures' median proportions."""
    good = [fact.size for fact in facts if not fact.fault]
    ratio = float(np.median([height / width for width, height in good])) if good else 1.0
    sides = np.array([min(1.0, ratio), min(1.0, 1 / ratio)]) * LONGER_SIDE * scale
    height, width = (max(32, 32 * round(side / 32)) for side in sides)
    return height, width
