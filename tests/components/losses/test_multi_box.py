"""SSD's loss equals loops over pictures and anchors."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torchvision.models.detection._utils import BoxCoder

from components.layers.anchors import AnchorOutput, assign_anchors
from components.losses.multi_box import MultiBox
from tests.components.layers.test_anchors import draw_boxes, draw_crowd, draw_truths, is_in_crowd

NO_CROWD = torch.zeros(2, 0, 4)


@given(seed=st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_the_loss_equals_the_loops(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    anchors = draw_boxes(seed, 25)
    boxes, labels = draw_truths(seed + 3, 3, 4)
    logits, offsets = torch.randn(3, 25, 6, generator=generator), torch.randn(3, 25, 4, generator=generator)
    crowd = draw_crowd(anchors)
    loss, weight, terms = MultiBox(threshold=0.4, negatives=2.5, offsets=0.7)(
        AnchorOutput(logits, offsets, anchors), boxes, labels, crowd
    )
    assigned = assign_anchors(anchors, boxes, labels, 0.4)
    coder = BoxCoder((10, 10, 5, 5))
    classes, distance, count = 0.0, 0.0, 0
    for picture in range(3):
        objects = [n for n in range(25) if assigned[picture, n] >= 0]
        count += len(objects)
        losses = [
            F.cross_entropy(
                logits[picture, n], labels[picture, assigned[picture, n]] if n in objects else torch.tensor(5)
            )
            for n in range(25)
        ]
        background = [n for n in range(25) if n not in objects and not is_in_crowd(anchors[n], crowd[picture])]
        negatives = sorted((losses[n].item() for n in background), reverse=True)
        allowed = [rank for rank in range(len(negatives)) if rank < 2.5 * len(objects)]
        classes += sum(losses[n].item() for n in objects) + sum(negatives[rank] for rank in allowed)
        for n in objects:
            target = coder.encode_single(boxes[picture, assigned[picture, n]][None], anchors[n][None])[0]
            distance += F.smooth_l1_loss(offsets[picture, n], target, reduction="sum").item()
    assert weight == count
    torch.testing.assert_close(terms["class_loss"], torch.tensor(classes / max(1, count)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(terms["offset_loss"], torch.tensor(distance / max(1, count)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(loss, terms["class_loss"] + 0.7 * terms["offset_loss"])


def test_pictures_without_objects_have_no_gradient() -> None:
    logits, offsets = torch.randn(2, 9, 4, requires_grad=True), torch.randn(2, 9, 4, requires_grad=True)
    for most in (0, 3):
        output = AnchorOutput(logits, offsets, draw_boxes(0, 9))
        loss, weight, _ = MultiBox()(output, torch.zeros(2, most, 4), torch.full((2, most), -1), NO_CROWD)
        gradients = torch.autograd.grad(loss, [logits, offsets])
        assert loss == weight == 0
        assert all((gradient == 0).all() for gradient in gradients)
