"""The losses of regions are means over pictures of means over their examples."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from components.losses.regions import classification_loss, objectness_loss, offset_loss

IS_REAL = torch.tensor([[True, True, False], [False, False, False], [True, True, True]])


def test_each_picture_counts_the_same() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(3, 3, 4), torch.randint(0, 4, (3, 3))
    means = [F.cross_entropy(logits[row][IS_REAL[row]], targets[row][IS_REAL[row]]) for row in (0, 2)]
    torch.testing.assert_close(classification_loss(logits, targets, IS_REAL), sum(means) / 3)
    flat, shows = torch.randn(3, 3), torch.rand(3, 3) > 0.5
    means = [
        F.binary_cross_entropy_with_logits(flat[row][IS_REAL[row]], shows[row][IS_REAL[row]].float()) for row in (0, 2)
    ]
    torch.testing.assert_close(objectness_loss(flat, shows, IS_REAL), sum(means) / 3)


def test_offsets_count_for_objects_alone() -> None:
    torch.manual_seed(0)
    offsets, targets = torch.randn(3, 3, 4, requires_grad=True), torch.randn(3, 3, 4)
    is_object = torch.tensor([[True, False, True], [True, True, True], [False, True, False]])
    first = F.smooth_l1_loss(offsets[0, 0], targets[0, 0], reduction="sum") / 2
    last = F.smooth_l1_loss(offsets[2, 1], targets[2, 1], reduction="sum") / 3
    targets[0, 1] = -torch.inf
    targets[1] = torch.nan
    loss = offset_loss(offsets, targets, is_object, IS_REAL)
    torch.testing.assert_close(loss, (first + last) / 3)
    (gradient,) = torch.autograd.grad(loss, offsets)
    assert gradient.isfinite().all()
    assert (gradient[:, 2] == 0).all()
