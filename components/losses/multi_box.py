"""The loss of detectors with anchors: classes with hard negatives, and offsets (notes: SSD; Liu et al. 2016)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers.anchors import AnchorOutput, assign_anchors
from ..layers.boxes import encode_offsets, lies_in_crowd
from ..recipes.ranges import Fraction, NonNegative


class MultiBox(nn.Module):
    """Sum cross-entropy over objects and hard negatives and the smooth L1 distance of offsets, per object.

    threshold: the IoU from which an anchor shows an object, next to the best anchor of each object. negatives: anchors
    of the background that count per anchor with an object, in each picture; those with the largest loss are taken, so a
    picture without objects adds nothing, and those in a crowd are left out. offsets: weight of the second term.
    """

    def __init__(self, threshold: Fraction = 0.5, negatives: NonNegative = 3.0, offsets: NonNegative = 1.0) -> None:
        super().__init__()
        self.threshold = threshold
        self.negatives = negatives
        self.offsets = offsets

    def forward(
        self, output: AnchorOutput, boxes: Tensor, labels: Tensor, crowd: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return the loss per anchor with an object, the number of these, and both terms.

        boxes [B, M, 4], labels [B, M]: the true boxes, padded with label -1. crowd: [B, C, 4], padded with zeros.
        """
        assigned = assign_anchors(output.anchors, boxes, labels, self.threshold)
        is_object = assigned >= 0
        rows = assigned.clamp(min=0)
        background = output.logits.shape[2] - 1
        if labels.shape[1]:
            targets = torch.where(is_object, labels.gather(1, rows), background)
        else:
            targets = torch.full_like(assigned, background)
        entropy = F.cross_entropy(output.logits.transpose(1, 2), targets, reduction="none")
        counts = is_object.sum(1)
        weight = counts.sum()
        mean = 1 / weight.clamp(min=1)
        is_background = ~is_object & ~lies_in_crowd(output.anchors, crowd)
        classes = (entropy * (is_object | self._hard_negatives(entropy, is_background, counts))).sum() * mean
        picture, anchor = is_object.nonzero(as_tuple=True)
        true = boxes[picture, rows[picture, anchor]]
        true_offsets = encode_offsets(true, output.anchors[anchor])
        distance = F.smooth_l1_loss(output.offsets[picture, anchor], true_offsets, reduction="sum") * mean
        terms = {"class_loss": classes.detach(), "offset_loss": distance.detach()}
        return classes + self.offsets * distance, weight, terms

    def _hard_negatives(self, entropy: Tensor, is_background: Tensor, counts: Tensor) -> Tensor:
        """Return which anchors [B, N] are the `negatives` * counts [B] background ones with the largest loss."""
        negative_loss = entropy.detach().masked_fill(~is_background, -1.0)
        rank = negative_loss.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        return is_background & (rank < (self.negatives * counts)[:, None])
