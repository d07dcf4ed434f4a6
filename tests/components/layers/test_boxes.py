"""Boxes match torchvision.ops, offsets the formula of the notes, crops plain slices and Pillow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision import ops

from components.layers.boxes import (
    box_area,
    clip_boxes,
    crop_boxes,
    decode_offsets,
    encode_offsets,
    iou,
    nms,
    to_centres,
    to_corners,
)

seeds = st.integers(0, 2**31)


def drawn(seed: int, count: int, step: float = 0.0) -> Tensor:
    """Draw boxes with sides of 1 to 41 on a canvas of 100; a `step` rounds them to a lattice, where boxes coincide."""
    random = torch.Generator().manual_seed(seed)
    first, sides = 100 * torch.rand(count, 2, generator=random), 1 + 40 * torch.rand(count, 2, generator=random)
    boxes = torch.cat([first, first + sides], 1)
    return boxes if not step else (boxes / step).round() * step


@given(seeds, st.integers(0, 30))
@settings(deadline=None, max_examples=50)
def test_conversions_and_areas_match_torchvision(seed: int, count: int) -> None:
    boxes = drawn(seed, count)
    torch.testing.assert_close(to_centres(boxes), ops.box_convert(boxes, "xyxy", "cxcywh"))
    torch.testing.assert_close(to_corners(boxes), ops.box_convert(boxes, "cxcywh", "xyxy"))
    torch.testing.assert_close(to_corners(to_centres(boxes)), boxes)
    torch.testing.assert_close(box_area(boxes), ops.box_area(boxes))
    shifted = boxes - 40  # so that boxes leave the picture on every side
    torch.testing.assert_close(clip_boxes(shifted, 30, 45), ops.clip_boxes_to_image(shifted, (30, 45)))


@given(seeds, st.integers(0, 30), st.integers(0, 30))
@settings(deadline=None, max_examples=50)
def test_overlap_matches_torchvision(seed: int, n: int, m: int) -> None:
    a, b = drawn(seed, n), drawn(seed + 1, m)
    torch.testing.assert_close(iou(a, b), ops.box_iou(a, b))


def test_overlap_by_hand_and_of_empty_boxes() -> None:
    a = torch.tensor([[0.0, 0, 2, 2], [5, 5, 5, 5]])
    b = torch.tensor([[1.0, 1, 3, 3], [2, 0, 4, 2], [5, 5, 5, 5]])
    torch.testing.assert_close(iou(a, b), torch.tensor([[1 / 7, 0, 0], [0, 0, 0]]))


@given(seeds, st.integers(0, 60), st.sampled_from([0.0, 20.0]), st.sampled_from([0.0, 0.3, 0.5, 0.9]))
@settings(deadline=None, max_examples=100)
def test_suppression_keeps_the_same_rows_as_torchvision(seed: int, count: int, step: float, threshold: float) -> None:
    """Cover equal boxes and tied scores too."""
    boxes, random = drawn(seed, count, step), torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 20, (count,), generator=random) / 20
    labels = torch.randint(0, 3, (count,), generator=random)
    assert nms(boxes, scores, threshold).tolist() == ops.nms(boxes, scores, threshold).tolist()
    within = nms(boxes, scores, threshold, labels).tolist()
    assert sorted(within) == sorted(ops.batched_nms(boxes, scores, labels, threshold).tolist())
    assert scores[within].tolist() == sorted(scores[within].tolist(), reverse=True)


def test_suppression_by_class_keeps_the_order_of_torchvision() -> None:
    boxes, scores = drawn(0, 80), torch.rand(80, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(80) % 4
    within = nms(boxes, scores, 0.2, labels)
    assert torch.equal(within, ops.batched_nms(boxes, scores, labels, 0.2))
    assert len(within) > len(nms(boxes, scores, 0.2))


def test_offsets_follow_the_notes() -> None:
    box, anchor = np.array([13.0, 21, 33, 51]), np.array([10.0, 20, 20, 40])
    (xb, yb, wb, hb), (xa, ya, wa, ha) = (
        ((b[0] + b[2]) / 2, (b[1] + b[3]) / 2, *(b[2:] - b[:2])) for b in (box, anchor)
    )
    expected = [(xb - xa) / wa / 0.1, (yb - ya) / ha / 0.1, np.log(wb / wa) / 0.2, np.log(hb / ha) / 0.2]
    result = encode_offsets(torch.from_numpy(box), torch.from_numpy(anchor))
    np.testing.assert_allclose(result.numpy(), expected)


@given(seeds)
@settings(deadline=None, max_examples=30)
def test_decoding_undoes_encoding(seed: int) -> None:
    boxes, anchors = drawn(seed, 20).double(), drawn(seed + 1, 20).double()
    torch.testing.assert_close(decode_offsets(encode_offsets(boxes, anchors), anchors), boxes)
    torch.testing.assert_close(decode_offsets(torch.zeros(20, 4, dtype=torch.float64), anchors), anchors)


def test_an_extreme_offset_gives_a_finite_box() -> None:
    assert decode_offsets(torch.full((1, 4), 1e6), drawn(0, 1)).isfinite().all()


def test_a_crop_of_its_own_size_is_a_slice() -> None:
    image = torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(0))
    result = crop_boxes(image, torch.tensor([[5.0, 7, 21, 23], [30, 20, 46, 36]]), 16)
    torch.testing.assert_close(result[0], image[:, 7:23, 5:21], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(result[1], image[:, 20:36, 30:46], rtol=1e-4, atol=1e-5)


def test_an_enlarged_crop_matches_pillow() -> None:
    random = np.random.default_rng(0)
    pixels = random.random((30, 40), dtype=np.float32)
    box = (10.0, 8.0, 20.0, 14.0)
    expected = np.asarray(Image.fromarray(pixels).resize((24, 24), Image.Resampling.BILINEAR, box=box))
    result = crop_boxes(torch.from_numpy(pixels)[None], torch.tensor([box]), 24)[0, 0].numpy()
    inside = slice(2, -2)  # Pillow repeats the border of the box, a crop reads the pixels beyond it
    np.testing.assert_allclose(result[inside, inside], expected[inside, inside], atol=1e-4)


def test_context_surrounds_the_box_and_is_zero_outside_the_picture() -> None:
    image = torch.ones(1, 20, 20)
    (middle,) = crop_boxes(image, torch.tensor([[5.0, 5, 15, 15]]), 20, context=0.5)
    torch.testing.assert_close(middle, image)
    (corner,) = crop_boxes(image, torch.tensor([[0.0, 0, 10, 10]]), 20, context=0.5)
    assert (corner[0, :4, :] == 0).all()
    assert (corner[0, :, :4] == 0).all()
    torch.testing.assert_close(corner[0, 6:, 6:], torch.ones(14, 14))
    assert crop_boxes(image, torch.zeros(0, 4), 8).shape == (0, 1, 8, 8)


@pytest.mark.parametrize("context", [0.0, 0.25])
def test_crops_are_where_the_boxes_are(context: float) -> None:
    """A ramp is warped to a ramp, whose ends show where the crop begins and ends."""
    ramp = (torch.arange(100) + 0.5).expand(1, 60, 100)
    (result,) = crop_boxes(ramp, torch.tensor([[30.0, 10, 50, 40]]), 8, context)
    ends = torch.tensor([30 - 20 * context, 50 + 20 * context])
    step = (ends[1] - ends[0]) / 8
    torch.testing.assert_close(result[0, 3], ends[0] + (torch.arange(8) + 0.5) * step, rtol=1e-4, atol=1e-3)
