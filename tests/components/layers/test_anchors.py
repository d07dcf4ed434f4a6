"""Anchors match the formulas of the notes, their assignment a plain loop, and both torchvision where it agrees."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision import ops
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from components.errors import Refusal
from components.layers.anchors import (
    BACKGROUND,
    IGNORED,
    anchor_shapes,
    assign_anchors,
    grid_anchors,
    pad_boxes,
    pad_objects,
)

seeds = st.integers(0, 2**31)


def draw_boxes(seed: int, *shape: int, step: float = 0.0) -> Tensor:
    """Draw boxes [*shape, 4] with sides of 1 to 21 on a canvas of 50; a `step` rounds them, so that IoUs coincide."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand(*shape, 2, generator=generator) * 30
    boxes = torch.cat([first, first + 1 + torch.rand(*shape, 2, generator=generator) * 20], -1)
    return (boxes / step).round() * step + torch.tensor([0, 0, step, step]) if step else boxes


def draw_truths(seed: int, pictures: int, most: int) -> tuple[Tensor, Tensor]:
    """Draw padded true boxes [B, M, 4] and labels [B, M]; a picture has 0 to M of them."""
    generator = torch.Generator().manual_seed(seed + 1)
    counts = torch.randint(0, most + 1, (pictures, 1), generator=generator)
    labels = torch.where(torch.arange(most) < counts, torch.randint(0, 5, (pictures, most), generator=generator), -1)
    return draw_boxes(seed, pictures, most) * (labels >= 0)[..., None], labels


def draw_crowd(near: Tensor) -> Tensor:
    """Return the crowds [3, 2, 4] of three pictures: one around the first of the boxes `near`, none, and two."""
    crowd = torch.zeros(3, 2, 4)
    crowd[0, 0] = near[0] + torch.tensor([-6.0, -6, 2, 6])
    crowd[2] = torch.tensor([[0.0, 0, 25, 60], [20, 20, 60, 60]])
    return crowd


def is_in_crowd(box: Tensor, crowd: Tensor) -> bool:
    """Return whether half of a box's area lies in one of the crowds [C, 4]."""
    for region in crowd:
        width, height = (torch.minimum(box[2:], region[2:]) - torch.maximum(box[:2], region[:2])).clamp(min=0).tolist()
        if width * height > 0 and width * height >= 0.5 * ops.box_area(box[None]).item():
            return True
    return False


def test_shapes_and_centres_follow_the_notes() -> None:
    """Check n + m - 1 shapes around the centre of every pixel, in the notes' order and by their formulas."""
    height, width, sizes, ratios = 3, 5, [0.75, 0.5, 0.25], [1.0, 2.0, 0.5]
    anchors = grid_anchors((height, width), (height, width), anchor_shapes([s * height for s in sizes], ratios))
    expected = []
    for row in range(height):
        for column in range(width):
            for size, ratio in [(0.75, 1), (0.5, 1), (0.25, 1), (0.75, 2), (0.75, 0.5)]:
                # the notes divide x by the width: w = s * sqrt(r) * H / W of the picture's width
                w = size * math.sqrt(ratio) * height / width * width / 2
                h = size / math.sqrt(ratio) * height / 2
                x, y = (column + 0.5) / width * width, (row + 0.5) / height * height
                expected.append([x - w, y - h, x + w, y + h])
    torch.testing.assert_close(anchors, torch.tensor(expected))


def test_anchors_equal_torchvisions_up_to_the_centre() -> None:
    """torchvision centres anchors on the corner of a cell, has all n * m shapes, and rounds them to whole pixels."""
    generator = AnchorGenerator(sizes=((8, 16, 32),), aspect_ratios=((1.0,),))
    expected = generator(ImageList(torch.zeros(1, 3, 40, 60), [(40, 60)]), [torch.zeros(1, 1, 10, 15)])[0]
    ours = grid_anchors((10, 15), (40, 60), anchor_shapes([8, 16, 32], [1.0]))
    assert torch.equal(ours, expected + 2)
    generator = AnchorGenerator(sizes=((8,),), aspect_ratios=((1.0, 0.25, 4.0),))
    expected = generator(ImageList(torch.zeros(1, 3, 40, 60), [(40, 60)]), [torch.zeros(1, 1, 10, 15)])[0]
    # its ratios are those of height to width
    assert torch.equal(grid_anchors((10, 15), (40, 60), anchor_shapes([8], [1.0, 4.0, 0.25])), expected + 2)


def test_no_size_is_refused() -> None:
    with pytest.raises(Refusal, match="0 sizes and 1 ratios; give at least one of each"):
        anchor_shapes([], [1.0])


def assign_by_loops(anchors: Tensor, boxes: Tensor, threshold: float, low: float | None) -> list[int]:
    """Return the assignment of one picture by the rule of the notes, one anchor and one box at a time."""
    overlaps = ops.box_iou(anchors, boxes).numpy()
    assigned = []
    for row in overlaps:
        if len(row) and row.max() >= threshold:
            assigned.append(int(row.argmax()))
        elif low is not None and len(row) and row.max() >= low:
            assigned.append(IGNORED)
        else:
            assigned.append(BACKGROUND)
    rows, columns = set(range(len(anchors))), set(range(len(boxes)))
    while rows and columns:
        value, column, row = max((overlaps[r, c], -c, -r) for r in rows for c in columns)
        if value <= 0:
            break
        assigned[-row] = -column
        rows.remove(-row)
        columns.remove(-column)
    return assigned


@given(seed=seeds, low=st.sampled_from([None, 0.2]), step=st.sampled_from([0.0, 5.0]))
@settings(max_examples=60, deadline=None)
def test_the_assignment_equals_the_loops_of_the_notes(seed: int, low: float | None, step: float) -> None:
    anchors = draw_boxes(seed + 7, 30, step=step)
    boxes, labels = draw_truths(seed, 4, 5)
    assigned = assign_anchors(anchors, boxes, labels, 0.4, low)
    for row in range(4):
        real = labels[row] >= 0
        assert assigned[row].tolist() == assign_by_loops(anchors, boxes[row][real], 0.4, low)
        alone = assign_anchors(
            anchors, boxes[row : row + 1, : real.sum()], labels[row : row + 1, : real.sum()], 0.4, low
        )
        assert torch.equal(alone[0], assigned[row]), "other pictures and padding change nothing"


@given(seed=seeds)
@settings(max_examples=30, deadline=None)
def test_every_true_box_has_an_anchor(seed: int) -> None:
    """Check the point of the greedy rule: no object is lost, however small its overlap with the anchors.

    Only a box all of whose anchors stand for other boxes has none.
    """
    anchors = grid_anchors((7, 7), (50, 50), anchor_shapes([10], [1.0]))
    boxes, labels = draw_truths(seed, 3, 6)
    assigned = assign_anchors(anchors, boxes, labels, 0.99)
    for row in range(3):
        overlaps = ops.box_iou(boxes[row], anchors) > 0
        for box in set(range(int((labels[row] >= 0).sum()))) - set(assigned[row].tolist()):
            assert (assigned[row][overlaps[box]] != BACKGROUND).all()


@given(seed=seeds)
@settings(max_examples=30, deadline=None)
def test_thresholds_equal_torchvisions_matcher(seed: int) -> None:
    """torchvision has no greedy rule, so anchors that are the best of a box are left out of the comparison."""
    anchors, boxes = draw_boxes(seed, 40), draw_boxes(seed + 1, 1, 4)
    assigned = assign_anchors(anchors, boxes, torch.zeros(1, 4, dtype=torch.int64), 0.5, 0.3)[0]
    overlaps = ops.box_iou(boxes[0], anchors)
    expected = Matcher(0.5, 0.3)(overlaps)
    greedy = (assigned != expected).nonzero()[:, 0]
    assert len(greedy) <= 4
    assert len(set(assigned[greedy].tolist())) == len(greedy)


def test_no_anchor_and_no_box_are_no_special_case() -> None:
    labels = torch.zeros(2, 0, dtype=torch.int64)
    assert (assign_anchors(draw_boxes(0, 5), torch.zeros(2, 0, 4), labels) == BACKGROUND).all()
    assert assign_anchors(torch.zeros(0, 4), draw_boxes(0, 2, 3), torch.zeros(2, 3, dtype=torch.int64)).shape == (2, 0)


def test_objects_come_with_their_crowds() -> None:
    box = np.ones((1, 4), np.float32)
    batch = {
        "image": torch.zeros(2, 4, 4, 1),
        "boxes": [box, box[:0]],
        "labels": [np.array([3]), np.zeros(0, np.int64)],
    }
    assert pad_objects(batch).crowd.shape == (2, 0, 4)
    crowded = pad_objects(batch | {"crowd": [box[:0], np.concatenate([box, 2 * box])]})
    assert crowded.labels.tolist() == [[3], [-1]]
    assert crowded.crowd.tolist() == [[[0] * 4] * 2, [[1] * 4, [2] * 4]]


def test_ragged_boxes_are_padded() -> None:
    boxes = [np.ones((2, 4), np.float32), np.zeros((0, 4), np.float32)]
    padded, labels = pad_boxes(boxes, [np.array([3, 4]), np.zeros(0, np.int64)], torch.device("cpu"))
    assert padded.tolist() == [[[1] * 4] * 2, [[0] * 4] * 2]
    assert labels.tolist() == [[3, 4], [-1, -1]]
