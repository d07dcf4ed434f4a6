"""Lead boxes to the cells of a grid and back (notes: YOLO)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .boxes import to_centres, to_corners


class GridOutput(NamedTuple):
    """The output of a network for S x S cells, row by row, with P boxes each.

    boxes [B, S * S, P, 4] from 0 to 1: the centre's place in its cell (x, y), and the square roots of width and height
    as shares of the picture's. confidence [B, S * S, P] from 0 to 1. logits [B, S * S, K] of the classes.
    """

    boxes: Tensor
    confidence: Tensor
    logits: Tensor
    cells: int  # S
    size: tuple[int, int]  # of the pictures: height, width

    def corners(self) -> Tensor:
        """Return the boxes as corners [B, S * S, P, 4], in pixels."""
        cell = torch.arange(self.cells**2, device=self.boxes.device)
        origin = torch.stack([cell % self.cells, cell // self.cells], 1)[:, None]
        centres = (self.boxes[..., :2] + origin) / self.cells
        return to_corners(torch.cat([centres, self.boxes[..., 2:].square()], -1)) * _sides(self.boxes, self.size)


def locate_boxes(boxes: Tensor, cells: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the cells [..., M] that hold the centres of boxes [..., M, 4], and the boxes in GridOutput's terms.

    boxes: corners, in pixels of pictures of `size`.
    """
    centred = to_centres(boxes / _sides(boxes, size))
    place = centred[..., :2] * cells
    origin = place.floor().clamp(0, cells - 1)
    cell = (origin[..., 1] * cells + origin[..., 0]).long()
    return cell, torch.cat([place - origin, centred[..., 2:].clamp(min=0).sqrt()], -1)


def _sides(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    height, width = size
    return boxes.new_tensor([width, height, width, height])
