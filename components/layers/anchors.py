"""Generate anchors around every position of a map, and assign them to true boxes (notes: anchors).

Boxes are corners x1, y1, x2, y2 in pixels, as in `boxes`. True boxes come padded: [B, M, 4], with label -1 behind them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import Refusal
from .boxes import iou, to_corners

BACKGROUND = -1  # an anchor without an object
IGNORED = -2  # an anchor that overlaps an object too much for the background and too little for the object


class AnchorOutput(NamedTuple):
    """The output of a network for N anchors: logits [B, N, K + 1], the last of the background; offsets [B, N, 4]."""

    logits: Tensor
    offsets: Tensor
    anchors: Tensor  # [N, 4], in pixels


class Objects(NamedTuple):
    """The objects in B pictures: boxes [B, M, 4] and labels [B, M], padded with label -1; crowds, padded with zeros."""

    boxes: Tensor
    labels: Tensor
    crowd: Tensor  # [B, C, 4]: what lies in them is not an example of the background


def anchor_shapes(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Return the n + m - 1 shapes (width, height) [n + m - 1, 2] of n sizes and m ratios of width to height.

    A shape has the area of a square of its size. They are all sizes with the first ratio, then the first size with the
    other ratios; all n * m would be too many.
    """
    if not sizes or not ratios:
        raise Refusal(f"anchors: {len(sizes)} sizes and {len(ratios)} ratios; give at least one of each")
    side = torch.tensor([*sizes, *[sizes[0]] * (len(ratios) - 1)], dtype=torch.float64)
    ratio = torch.tensor([ratios[0]] * len(sizes) + list(ratios[1:]), dtype=torch.float64)
    return torch.stack([side * ratio.sqrt(), side / ratio.sqrt()], 1).float()


def grid_anchors(grid: tuple[int, int], size: tuple[int, int], shapes: Tensor) -> Tensor:
    """Return the anchors [rows * columns * A, 4] of `shapes` [A, 2], in pixels, around the centre of every cell.

    grid: rows and columns of the map. size: height and width of the picture. Anchors may extend beyond the picture.
    """
    (rows, columns), (height, width) = grid, size
    y = (torch.arange(rows) + 0.5) * (height / rows)
    x = (torch.arange(columns) + 0.5) * (width / columns)
    centres = torch.stack([x.expand(rows, columns), y[:, None].expand(rows, columns)], -1)
    anchors = torch.cat(
        [centres[:, :, None].expand(-1, -1, len(shapes), 2), shapes.expand(rows, columns, -1, 2)], dim=-1
    )
    return to_corners(anchors.reshape(-1, 4))


def pad_boxes(boxes: Sequence[np.ndarray], labels: Sequence[np.ndarray], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the boxes [M, 4] and labels [M] of B pictures as tensors [B, M, 4] and [B, M], padded with label -1."""
    most = max((len(rows) for rows in boxes), default=0)
    padded = np.zeros((len(boxes), most, 4), np.float32)
    padded_labels = np.full((len(boxes), most), -1, np.int64)
    for row, (picture_boxes, picture_labels) in enumerate(zip(boxes, labels, strict=True)):
        padded[row, : len(picture_boxes)] = picture_boxes
        padded_labels[row, : len(picture_boxes)] = picture_labels
    return torch.from_numpy(padded).to(device), torch.from_numpy(padded_labels).to(device)


def pad_objects(batch: dict[str, Any]) -> Objects:
    """Return the objects of a batch's columns boxes, labels and, if it has one, crowd."""
    device = batch["image"].device
    boxes, labels = pad_boxes(batch["boxes"], batch["labels"], device)
    crowds = batch.get("crowd", [np.zeros((0, 4))] * len(labels))
    return Objects(boxes, labels, pad_boxes(crowds, [np.zeros(len(rows)) for rows in crowds], device)[0])


def assign_anchors(
    anchors: Tensor, boxes: Tensor, labels: Tensor, threshold: float = 0.5, low: float | None = None
) -> Tensor:
    """Return the row of the true box that each anchor stands for, or BACKGROUND, or IGNORED: int64 [B, N].

    anchors: [N, 4], or [B, N, 4] where each picture has its own. boxes [B, M, 4], labels [B, M]: the true boxes.

    The rule of the notes. First, the largest IoU of all assigns an anchor to a box, both leave, and so on until every
    box that overlaps an anchor has one. Then every other anchor takes the box with which its IoU is largest, if that is
    at least `threshold`. The remaining anchors are background or, with an IoU of at least `low`, ignored.
    """
    pictures, most = labels.shape
    overlaps = iou(boxes, anchors).masked_fill((labels < 0)[..., None], -1.0)  # [B, M, N]
    count = overlaps.shape[2]
    if not most or not count:
        return labels.new_full((pictures, count), BACKGROUND)
    overlap, best = overlaps.max(1)
    rest = torch.full_like(best, BACKGROUND)
    if low is not None:
        rest.masked_fill_(overlap >= low, IGNORED)
    assigned = torch.where(overlap >= threshold, best, rest)
    picture = torch.arange(pictures, device=labels.device)
    largest, place = overlaps.max(2)  # of each box
    for _ in range(most):
        value, box = largest.max(1)
        anchor = place[picture, box]
        assigned[picture, anchor] = torch.where(value > 0, box, assigned[picture, anchor])
        overlaps[picture, :, anchor] = -1.0
        overlaps[picture, box] = -1.0
        # Only the boxes whose best anchor has just left need another one; where no pair overlaps any more, none does.
        stale = (place == anchor[:, None]) & (value > 0)[:, None]
        largest[stale], place[stale] = overlaps[stale].max(1)
    return assigned
