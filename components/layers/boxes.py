"""Convert, compare, suppress, encode and crop boxes (notes: object detection).

A box is x1, y1, x2, y2 in pixels, the ends exclusive: its sides are x2 - x1 and y2 - y1.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# Typical offsets of the centre and of the log sides, by which encoded offsets are divided (notes).
OFFSET_STD = (0.1, 0.1, 0.2, 0.2)
# A box belongs to a crowd if at least this share of its area lies in it.
CROWD_SHARE = 0.5
# The largest log ratio of sides that is decoded, so that an extreme offset does not give an infinite box.
MAX_LOG_RATIO = 4.0


def to_centres(boxes: Tensor) -> Tensor:
    """Convert corners [..., 4] to centre x, centre y, width, height [..., 4]."""
    first, last = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(first + last) / 2, last - first], -1)


def to_corners(boxes: Tensor) -> Tensor:
    """Convert centre x, centre y, width, height [..., 4] to corners [..., 4]."""
    centre, sides = boxes[..., :2], boxes[..., 2:]
    return torch.cat([centre - sides / 2, centre + sides / 2], -1)


def box_area(boxes: Tensor) -> Tensor:
    """Return the area [...] of boxes [..., 4]."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the intersection over union [..., N, M] of boxes a [..., N, 4], b [..., M, 4]; 0 where both are empty."""
    shared = intersection(a, b)
    union = box_area(a)[..., :, None] + box_area(b)[..., None, :] - shared
    return torch.where(union > 0, shared / union, 0.0)


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """Return the shared area [..., N, M] of boxes a [..., N, 4] and b [..., M, 4]."""
    # One array per coordinate, so that the innermost loop runs over the boxes b: faster than over pairs of corners.
    ax1, ay1, ax2, ay2 = (line[..., :, None] for line in a.movedim(-1, 0).contiguous())
    bx1, by1, bx2, by2 = (line[..., None, :] for line in b.movedim(-1, 0).contiguous())
    width = (torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1)).clamp(min=0)
    height = (torch.minimum(ay2, by2) - torch.maximum(ay1, by1)).clamp(min=0)
    return width * height


def lies_in_crowd(boxes: Tensor, crowd: Tensor) -> Tensor:
    """Return which boxes [..., N, 4] have CROWD_SHARE of their area in one of the crowds [..., C, 4]: bool [..., N].

    A crowd without area, as padding, holds no box. Such boxes are not examples of the background.
    """
    if not crowd.shape[-2]:
        return boxes.new_zeros(*crowd.shape[:-2], boxes.shape[-2], dtype=torch.bool)
    shared = intersection(boxes, crowd).amax(-1)
    return (shared > 0) & (shared >= CROWD_SHARE * box_area(boxes))


def nms(boxes: Tensor, scores: Tensor, threshold: float, labels: Tensor | None = None) -> Tensor:
    """Return the rows, int64 [K], of boxes [N, 4] that remain after non-maximum suppression, best score first.

    From the best of scores [N] down, a box is dropped if its IoU with a better one that remains is above `threshold`.
    With `labels` [N], only boxes of the same class suppress each other.
    """
    order = scores.argsort(descending=True, stable=True)
    return order[unsuppressed(boxes[order], threshold, None if labels is None else labels[order])]


def unsuppressed(boxes: Tensor, threshold: float, labels: Tensor | None = None) -> Tensor:
    """Return which boxes [..., N, 4], best score first, remain after non-maximum suppression: bool [..., N].

    The rule of `nms`, for all pictures together. A box remains unless a better one that remains suppresses it; from
    any start, repeating this settles the first k boxes after k rounds, and in practice all of them after a few.
    """
    suppresses = iou(boxes, boxes) > threshold
    if labels is not None:
        suppresses &= labels[..., :, None] == labels[..., None, :]
    weights = suppresses.triu(1).float()  # only boxes of lower scores
    remaining = torch.ones(boxes.shape[:-1], dtype=torch.bool, device=boxes.device)
    while True:
        previous = remaining
        remaining = (previous.float()[..., None, :] @ weights)[..., 0, :] == 0
        if torch.equal(remaining, previous):
            return remaining


def encode_offsets(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Return the offsets [..., 4] from anchors to boxes (corners [..., 4], sides above 0), divided by OFFSET_STD."""
    box, anchor = to_centres(boxes), to_centres(anchors)
    shift = (box[..., :2] - anchor[..., :2]) / anchor[..., 2:]
    scale = (box[..., 2:] / anchor[..., 2:]).log()
    return torch.cat([shift, scale], -1) / boxes.new_tensor(OFFSET_STD)


def decode_offsets(offsets: Tensor, anchors: Tensor) -> Tensor:
    """Return the boxes (corners [..., 4]) at offsets from anchors [..., 4] each: the inverse of `encode_offsets`."""
    offsets = offsets * offsets.new_tensor(OFFSET_STD)
    anchor = to_centres(anchors)
    centre = anchor[..., :2] + offsets[..., :2] * anchor[..., 2:]
    sides = anchor[..., 2:] * offsets[..., 2:].clamp(max=MAX_LOG_RATIO).exp()
    return to_corners(torch.cat([centre, sides], -1))


def clip_boxes(boxes: Tensor, height: int, width: int) -> Tensor:
    """Clip boxes [..., 4] to a picture of `height` x `width` pixels."""
    return torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))


def crop_boxes(image: Tensor, boxes: Tensor, size: int, context: float = 0.0) -> Tensor:
    """Crop boxes [N, 4] from image [C, H, W] and warp them to squares [N, C, size, size], bilinear.

    context: the share of its sides by which a box first grows at each end. Pixels outside the picture are 0.
    """
    if not len(boxes):
        return image.new_zeros(0, len(image), size, size)
    height, width = image.shape[1:]
    centres, sides = to_centres(boxes).split(2, -1)
    steps = ((torch.arange(size, device=image.device) + 0.5) / size - 0.5) * (1 + 2 * context)
    x = centres[:, :1] + sides[:, :1] * steps
    y = centres[:, 1:] + sides[:, 1:] * steps
    shape = (len(boxes), size, size)
    grid = torch.stack(
        [(2 * x / width - 1)[:, None, :].expand(shape), (2 * y / height - 1)[..., None].expand(shape)], -1
    )
    warped = F.grid_sample(image[None], grid.reshape(1, -1, size, 2), align_corners=False)
    return warped[0].unflatten(1, (len(boxes), size)).transpose(0, 1)
