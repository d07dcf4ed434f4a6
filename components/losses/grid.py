"""The loss of YOLO: squared errors of places, confidences and classes (notes; Redmon et al. 2016)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from ..layers.boxes import iou, lies_in_crowd
from ..layers.grid import GridOutput, locate_boxes
from ..recipes.ranges import NonNegative


class Grid(nn.Module):
    """Sum the squared errors of every cell with an object, and of the confidence of all boxes, per picture.

    The cell with an object's centre is responsible for it and, of its boxes, the one whose IoU with the object is
    largest. That box learns the place, and its confidence learns the IoU; the cell learns the class. The confidence of
    all other boxes learns 0, unless the box lies in a crowd. Of several objects in a cell the first one counts.

    places: weight of the squared errors of the responsible boxes. empty: weight of the confidence of the other ones.
    """

    def __init__(self, places: NonNegative = 5.0, empty: NonNegative = 0.5) -> None:
        super().__init__()
        self.places = places
        self.empty = empty

    def forward(
        self, output: GridOutput, boxes: Tensor, labels: Tensor, crowd: Tensor
    ) -> tuple[Tensor, None, dict[str, Tensor]]:
        """Return the mean loss of the pictures, None (it is a mean over pictures), and its terms.

        boxes [B, M, 4], labels [B, M]: the true boxes, padded with label -1. crowd: [B, C, 4], padded with zeros.
        """
        cell, place = locate_boxes(boxes, output.cells, output.size)
        picture, row = self._first_of_cell(cell, labels).nonzero(as_tuple=True)
        cell, place, true = cell[picture, row], place[picture, row], boxes[picture, row]
        corners = output.corners().detach()
        overlap = iou(corners[picture, cell], true[:, None])[..., 0]  # [objects, P]
        best_overlap, best = overlap.max(1)
        count = len(labels)
        places = (output.boxes[picture, cell, best] - place).square().sum() / count
        classes = F.one_hot(labels[picture, row], output.logits.shape[2]).float()
        errors = (output.logits[picture, cell].softmax(1) - classes).square().sum() / count
        confidence = output.confidence[picture, cell, best]
        objects = (confidence - best_overlap).square().sum() / count
        in_crowd = lies_in_crowd(corners.flatten(1, 2), crowd).view_as(output.confidence)
        is_empty = ~in_crowd
        is_empty[picture, cell, best] = False
        empty = (output.confidence.square() * is_empty).sum() / count
        terms = {"place_loss": places.detach(), "class_loss": errors.detach(), "confidence_loss": objects.detach()}
        return self.places * places + errors + objects + self.empty * empty, None, terms

    def _first_of_cell(self, cell: Tensor, labels: Tensor) -> Tensor:
        """Return which of the boxes [B, M] are real and the first ones in their cells [B, M]."""
        same = (cell[:, :, None] == cell[:, None]) & (labels >= 0)[:, None]
        return (labels >= 0) & ~same.tril(-1).any(2)
