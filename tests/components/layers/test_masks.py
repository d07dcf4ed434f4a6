"""Masks are cropped to regions as plain means, and pasted as torch interpolates."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from components.layers.masks import crop_masks, paste_masks


@given(seed=st.integers(0, 2**31), side=st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_a_bin_has_the_share_of_the_object(seed: int, side: int) -> None:
    """Compare with means over whole pixels, for regions whose bins consist of whole pixels."""
    random = np.random.default_rng(seed)
    instances = random.integers(0, 4, (2, 30, 40)).astype(np.int16)
    regions, objects = np.zeros((2, 3, 4), np.float32), random.integers(0, 3, (2, 3))
    expected = np.zeros((2, 3, side, side))
    for picture in range(2):
        for row in range(3):
            height, width = random.integers(1, 30 // side + 1), random.integers(1, 40 // side + 1)
            y, x = random.integers(0, 30 - height * side + 1), random.integers(0, 40 - width * side + 1)
            regions[picture, row] = [x, y, x + width * side, y + height * side]
            crop = instances[picture, y : y + height * side, x : x + width * side] == objects[picture, row] + 1
            expected[picture, row] = crop.reshape(side, height, side, width).mean((1, 3))
    arrays = (torch.from_numpy(array) for array in (instances, objects, regions))
    np.testing.assert_allclose(crop_masks(*arrays, side), expected, atol=1e-5)


def test_parts_of_pixels_count_in_parts() -> None:
    instances = torch.tensor([[[1, 0], [0, 0]]], dtype=torch.int16)
    share = crop_masks(instances, torch.tensor([[0]]), torch.tensor([[[0.5, 0, 2, 2]]]), 1)
    assert share.item() == torch.tensor(0.5 / 3)


def test_pasting_equals_torchs_interpolation() -> None:
    masks = torch.rand(1, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[[3.0, 2, 23, 12], [10, 0, 20, 40]]])
    pasted = paste_masks(masks, boxes, 40, 30)
    assert pasted.shape == (1, 2, 40, 30)
    first = F.interpolate(masks[:, :1], (10, 20), mode="bilinear", align_corners=False)
    second = F.interpolate(masks[:, 1:], (40, 10), mode="bilinear", align_corners=False)
    torch.testing.assert_close(pasted[0, 0, 2:12, 3:23], first[0, 0])
    torch.testing.assert_close(pasted[0, 1, :, 10:20], second[0, 0])
    assert (pasted[0, 0] > 0).sum() == 10 * 20
    assert (pasted[0, 1] > 0).sum() == 40 * 10


def test_a_mask_survives_a_crop_and_a_paste() -> None:
    instances = torch.zeros(1, 40, 40, dtype=torch.int16)
    instances[0, 10:30, 4:24] = 2
    region = torch.tensor([[[0.0, 6, 28, 34]]])
    cropped = crop_masks(instances, torch.tensor([[1]]), region, 14)
    assert torch.equal(paste_masks(cropped, region, 40, 40)[0, 0] >= 0.5, instances[0] == 2)


def test_boxes_of_no_area_give_empty_masks() -> None:
    zero = torch.zeros(1, 1, 4)
    assert crop_masks(torch.ones(1, 4, 4), torch.zeros(1, 1, dtype=torch.int64), zero, 3).isfinite().all()
    assert paste_masks(torch.ones(1, 1, 3, 3), zero, 4, 4).sum() == 0
