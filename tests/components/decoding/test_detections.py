"""Detections are those of a loop over pictures and classes with torchvision's suppression."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision import ops

from components.decoding.detections import CANDIDATES, select_detections


def detect_by_loops(boxes: Tensor, scores: Tensor, suppress: float, most: int) -> list[tuple[float, int, list[float]]]:
    """Return the (score, label, box) of one picture's detections; boxes [N, K, 4], scores [N, K]."""
    rows = [
        (scores[row, label].item(), -(row * scores.shape[1] + label))
        for row, label in torch.cartesian_prod(torch.arange(scores.shape[0]), torch.arange(scores.shape[1])).tolist()
    ]
    rows = sorted(rows, reverse=True)[: CANDIDATES * most]
    flat = [-place for _, place in rows]
    candidates, labels = boxes.flatten(0, 1)[flat], torch.tensor(flat) % scores.shape[1]
    values = torch.tensor([value for value, _ in rows], dtype=torch.float64)
    remaining = ops.batched_nms(candidates.double(), values, labels, suppress)
    return [(values[i].item(), int(labels[i]), candidates[i].tolist()) for i in remaining if values[i] > 0][:most]


@given(seed=st.integers(0, 2**31), by_class=st.booleans(), most=st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_detections_equal_the_loops(seed: int, by_class: bool, most: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand(3, 12, 2, 2, generator=generator) * 20
    boxes = torch.cat([first, first + 5 + torch.rand(3, 12, 2, 2, generator=generator) * 20], -1)
    scores = torch.rand(3, 12, 2, generator=generator)
    scores[scores < 0.3] = 0
    if not by_class:
        boxes = boxes[:, :, :1].expand(-1, -1, 2, -1)
    detections = select_detections(boxes if by_class else boxes[:, :, 0], scores, 0.3, most)
    assert {name: tuple(values.shape) for name, values in detections.items()} == {
        "boxes": (3, most, 4),
        "scores": (3, most),
        "labels": (3, most),
    }
    for picture in range(3):
        expected = detect_by_loops(boxes[picture], scores[picture], 0.3, most)
        for place in range(most):
            detection = tuple(detections[name][picture, place].tolist() for name in ("scores", "labels", "boxes"))
            assert detection == (expected[place] if place < len(expected) else (0.0, -1, [0.0] * 4))
        alone = select_detections(boxes[picture : picture + 1], scores[picture : picture + 1], 0.3, most)
        assert all(torch.equal(values[0], detections[name][picture]) for name, values in alone.items())


def test_without_boxes_there_are_no_detections() -> None:
    detections = select_detections(torch.zeros(2, 0, 4), torch.zeros(2, 0, 3), 0.5, 4)
    assert detections["boxes"].shape == (2, 4, 4)
    assert (detections["labels"] == -1).all()
