"""Lead the masks of objects between pictures and the squares of regions (notes: Mask R-CNN).

Pictures hold index maps `instances` [B, H, W] with 1 + the object's place in its row (data/masks.py).
"""

from __future__ import annotations

import torch
from torch import Tensor


def crop_masks(instances: Tensor, objects: Tensor, regions: Tensor, side: int) -> Tensor:
    """Return which share of each of side x side bins of regions [B, R, 4] shows the object [B, R]: [B, R, side, side].

    objects: places of the objects in their rows, from 0. A bin's share is the mean over the area that it covers.
    """
    height, width = instances.shape[1:]
    shows = (instances[:, None] == objects[..., None, None] + 1).to(regions.dtype)
    rows = _coverage(regions[..., 1], regions[..., 3], height, side)
    columns = _coverage(regions[..., 0], regions[..., 2], width, side)
    return rows @ shows @ columns.transpose(2, 3)


def paste_masks(masks: Tensor, boxes: Tensor, height: int, width: int) -> Tensor:
    """Return masks [B, R, S, S] at their boxes [B, R, 4] in pictures of height x width pixels: [B, R, H, W].

    A pixel takes the value that is interpolated (bilinear) at its centre, and 0 outside the box.
    """
    rows = _places(boxes[..., 1], boxes[..., 3], height, masks.shape[2])
    columns = _places(boxes[..., 0], boxes[..., 2], width, masks.shape[3])
    return rows @ masks @ columns.transpose(2, 3)


def _coverage(first: Tensor, last: Tensor, cells: int, side: int) -> Tensor:
    """Return the shares [B, R, side, cells] of each bin between `first` and `last` [B, R] that a line's cells cover."""
    length = (last - first).clamp(min=1e-6)[..., None] / side
    start = (first[..., None] + length * torch.arange(side, device=first.device))[..., None]
    end = start + length[..., None]
    cell = torch.arange(cells, device=first.device)
    shared = torch.minimum(end, cell + 1.0) - torch.maximum(start, cell.to(start.dtype))
    return shared.clamp(min=0) / length[..., None]


def _places(first: Tensor, last: Tensor, cells: int, side: int) -> Tensor:
    """Return the weights [B, R, cells, side] of the bins between `first` and `last` [B, R] at a line's cell centres."""
    centre = torch.arange(cells, device=first.device) + 0.5
    place = (centre - first[..., None]) / (last - first).clamp(min=1e-6)[..., None]
    position = (place * side - 0.5).clamp(0, side - 1)
    weights = 1 - (position[..., None] - torch.arange(side, device=first.device)).abs()
    is_inside = (place >= 0) & (place <= 1)
    return weights.clamp(min=0) * is_inside[..., None]
