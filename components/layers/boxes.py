"""Boxes (notes: object detection): two ways to write them, their overlap, suppression, offsets, and what they show.

A box is x1, y1, x2, y2 in pixels, the end exclusive: its sides are x2 - x1 and y2 - y1.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

OFFSET_STD = (0.1, 0.1, 0.2, 0.2)  # of the notes: offsets of centre and log sides, divided by these, are about 1
LONGEST = 4.0  # the greatest log of a ratio of sides that is decoded: a wild offset gives no infinite box


def to_centres(boxes: Tensor) -> Tensor:
    """Corners [..., 4] -> centre x, centre y, width, height [..., 4]."""
    first, last = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(first + last) / 2, last - first], -1)


def to_corners(boxes: Tensor) -> Tensor:
    """Centre x, centre y, width, height [..., 4] -> corners [..., 4]."""
    centre, sides = boxes[..., :2], boxes[..., 2:]
    return torch.cat([centre - sides / 2, centre + sides / 2], -1)


def box_area(boxes: Tensor) -> Tensor:
    """[..., 4] -> [...]."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of each pair: [N, 4], [M, 4] -> [N, M]; 0 where both are empty."""
    first = torch.maximum(a[:, None, :2], b[None, :, :2])
    last = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (last - first).clamp(min=0).prod(-1)
    union = box_area(a)[:, None] + box_area(b)[None] - shared
    return torch.where(union > 0, shared / union, 0.0)


def nms(boxes: Tensor, scores: Tensor, threshold: float, labels: Tensor | None = None) -> Tensor:
    """Non-maximum suppression: from the best score down, what overlaps a kept box by more than `threshold` goes.

    [N, 4], [N] -> the kept rows int64 [K], best first. With `labels` [N], boxes of another class are no rivals.
    """
    order = scores.argsort(descending=True, stable=True)
    rivals = iou(boxes[order], boxes[order]) > threshold
    if labels is not None:
        rivals &= labels[order, None] == labels[order]
    later = rivals.triu(1).cpu().numpy()
    kept = np.ones(len(order), dtype=bool)
    for row in range(len(order)):
        if kept[row]:
            kept &= ~later[row]
    return order[torch.from_numpy(kept).to(order.device)]


def encode_offsets(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Offsets [..., 4] that lead from `anchors` to `boxes` (both corners, sides above 0), divided by OFFSET_STD."""
    box, anchor = to_centres(boxes), to_centres(anchors)
    shift = (box[..., :2] - anchor[..., :2]) / anchor[..., 2:]
    scale = (box[..., 2:] / anchor[..., 2:]).log()
    return torch.cat([shift, scale], -1) / boxes.new_tensor(OFFSET_STD)


def decode_offsets(offsets: Tensor, anchors: Tensor) -> Tensor:
    """The boxes [..., 4] (corners) that `offsets` lead to from `anchors`: the inverse of `encode`."""
    offsets, anchor = offsets * offsets.new_tensor(OFFSET_STD), to_centres(anchors)
    centre = anchor[..., :2] + offsets[..., :2] * anchor[..., 2:]
    sides = anchor[..., 2:] * offsets[..., 2:].clamp(max=LONGEST).exp()
    return to_corners(torch.cat([centre, sides], -1))


def clip_boxes(boxes: Tensor, height: int, width: int) -> Tensor:
    """The boxes [..., 4] inside a picture."""
    return torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))


def crop_boxes(image: Tensor, boxes: Tensor, size: int, context: float = 0.0) -> Tensor:
    """What each box shows, warped to a square: [C, H, W], [N, 4] -> [N, C, size, size], bilinear.

    context: by how much of its sides a box grows at each end before; outside the picture all is 0.
    """
    if not len(boxes):
        return image.new_zeros(0, len(image), size, size)
    height, width = image.shape[1:]
    middle, sides = to_centres(boxes).split(2, -1)
    steps = ((torch.arange(size, device=image.device) + 0.5) / size - 0.5) * (1 + 2 * context)
    x = middle[:, :1] + sides[:, :1] * steps
    y = middle[:, 1:] + sides[:, 1:] * steps
    shape = (len(boxes), size, size)
    grid = torch.stack(
        [(2 * x / width - 1)[:, None, :].expand(shape), (2 * y / height - 1)[..., None].expand(shape)], -1
    )
    warped = F.grid_sample(image[None], grid.reshape(1, -1, size, 2), align_corners=False)
    return warped[0].unflatten(1, (len(boxes), size)).transpose(0, 1)
