"""YOLO's loss equals loops over pictures, cells and boxes."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import ops

from components.layers.grid import GridOutput
from components.losses.grid import Grid
from tests.components.layers.test_anchors import draw_crowd, draw_truths, is_in_crowd


@given(seed=st.integers(0, 2**31), cells=st.integers(1, 5), count=st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_the_loss_equals_the_loops(seed: int, cells: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    boxes, labels = draw_truths(seed, 3, 4)
    places = torch.rand(3, cells**2, count, 4, generator=generator)
    confidence = torch.rand(3, cells**2, count, generator=generator)
    logits = torch.randn(3, cells**2, 5, generator=generator)
    output = GridOutput(places, confidence, logits, cells, (50, 60))
    crowd = draw_crowd(boxes[0])
    loss, weight, terms = Grid(places=3.0, empty=0.25)(output, boxes, labels, crowd)
    expected = {"place_loss": 0.0, "class_loss": 0.0, "confidence_loss": 0.0, "empty": 0.0}
    for picture in range(3):
        responsible = {}
        for box, label in zip(boxes[picture], labels[picture].tolist(), strict=True):
            x, y = ((box[0] + box[2]) / 2 / 60).item(), ((box[1] + box[3]) / 2 / 50).item()
            column, row = int(x * cells), int(y * cells)
            cell = row * cells + column
            if label < 0 or cell in [c for c, _ in responsible]:
                continue
            corners = []
            for x_in_cell, y_in_cell, w, h in places[picture, cell].tolist():
                cx, cy, width, height = (
                    (column + x_in_cell) / cells * 60,
                    (row + y_in_cell) / cells * 50,
                    w**2 * 60,
                    h**2 * 50,
                )
                corners.append([cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2])
            overlaps = ops.box_iou(torch.tensor(corners), box[None])[:, 0]
            best = int(overlaps.argmax())
            responsible[cell, best] = overlaps[best].item()
            target = torch.tensor(
                [x * cells - column, y * cells - row, ((box[2] - box[0]) / 60) ** 0.5, ((box[3] - box[1]) / 50) ** 0.5]
            )
            expected["place_loss"] += (places[picture, cell, best] - target).square().sum().item()
            one_hot = torch.eye(5)[label]
            expected["class_loss"] += (logits[picture, cell].softmax(0) - one_hot).square().sum().item()
        for cell in range(cells**2):
            for number in range(count):
                value = confidence[picture, cell, number].item()
                if (cell, number) in responsible:
                    expected["confidence_loss"] += (value - responsible[cell, number]) ** 2
                elif not is_in_crowd(output.corners()[picture, cell, number], crowd[picture]):
                    expected["empty"] += value**2
    means = {name: value / 3 for name, value in expected.items()}
    assert weight is None
    for name, value in terms.items():
        torch.testing.assert_close(value, torch.tensor(means[name]), rtol=1e-3, atol=1e-4)
    total = 3 * means["place_loss"] + means["class_loss"] + means["confidence_loss"] + 0.25 * means["empty"]
    torch.testing.assert_close(loss, torch.tensor(total), rtol=1e-3, atol=1e-4)


def test_pictures_without_objects_lower_the_confidence_alone() -> None:
    places, confidence = torch.rand(2, 4, 2, 4, requires_grad=True), torch.rand(2, 4, 2, requires_grad=True)
    output = GridOutput(places, confidence, torch.zeros(2, 4, 3), 2, (8, 8))
    loss, _, _ = Grid()(output, torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.int64), torch.zeros(2, 0, 4))
    by_place, by_confidence = torch.autograd.grad(loss, [places, confidence], allow_unused=True)
    assert by_place is None or (by_place == 0).all()
    torch.testing.assert_close(by_confidence, 0.5 * 2 * confidence.detach() / 2)
