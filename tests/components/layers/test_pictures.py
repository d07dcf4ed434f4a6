"""Pictures fit into a network's size as Pillow would scale them, and boxes come back to where they were."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from components.layers.pictures import GROUND, Letterbox, standardise

sides = st.tuples(st.integers(1, 90), st.integers(1, 90))


@given(source=sides, target=sides)
@settings(max_examples=60, deadline=None)
def test_the_scaled_picture_is_the_largest_that_fits(source: tuple[int, int], target: tuple[int, int]) -> None:
    letterbox = Letterbox(source, target)
    images = torch.full((1, *source, 1), 200, dtype=torch.uint8)
    fitted = letterbox.fit(images)
    y, x, height, width = letterbox.place
    assert fitted.shape == (1, *target, 1)
    assert height == target[0] or width == target[1]
    if source != target:
        assert (fitted[:, y : y + height, x : x + width] == 200).all()
        assert int((fitted == GROUND).sum()) == target[0] * target[1] - height * width, "the rest is grey"
    assert abs(2 * y + height - target[0]) <= 1
    assert abs(2 * x + width - target[1]) <= 1
    assert abs(height * source[1] - width * source[0]) <= max(source), "the ratio of sides is kept, up to half a pixel"


@given(source=sides, target=sides, seed=st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_boxes_come_back(source: tuple[int, int], target: tuple[int, int], seed: int) -> None:
    letterbox = Letterbox(source, target)
    ends = torch.rand(5, 2, 2, generator=torch.Generator().manual_seed(seed)).sort(dim=1).values
    boxes = (ends * torch.tensor([source[1], source[0]])).flatten(1)
    fitted = letterbox.fit_boxes(boxes)
    y, x, height, width = letterbox.place
    assert (fitted >= torch.tensor([x, y, x, y]) - 1e-4).all()
    assert (fitted <= torch.tensor([x + width, y + height] * 2) + 1e-4).all()
    torch.testing.assert_close(letterbox.restore_boxes(fitted), boxes, rtol=1e-4, atol=1e-4)


def test_scaling_equals_pillows() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 91, 3), dtype=np.uint8)
    letterbox = Letterbox((60, 91), (32, 32))
    y, x, height, width = letterbox.place
    expected = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR), np.int64)
    fitted = letterbox.fit(torch.from_numpy(image)[None])[0, y : y + height, x : x + width]
    assert (y, x, height, width) == (5, 0, 21, 32)
    assert np.abs(fitted.numpy() - expected).max() <= 1


def test_a_picture_of_the_right_size_is_untouched() -> None:
    images = torch.zeros(1, 8, 9, 3, dtype=torch.uint8)
    assert Letterbox((8, 9), (8, 9)).fit(images) is images


def test_boxes_of_a_margin_are_clipped_to_the_picture() -> None:
    letterbox = Letterbox((10, 40), (20, 20))
    assert letterbox.restore_boxes(torch.tensor([[0.0, 2, 30, 12]])).tolist() == [[0, 0, 40, 10]]


def test_pixels_are_standardised_by_channel() -> None:
    images = torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 1, 1, 3)
    mean, std = torch.tensor([0.0, 0.5, 0.1]).view(3, 1, 1), torch.tensor([1.0, 0.25, 0.1]).view(3, 1, 1)
    torch.testing.assert_close(standardise(images, mean, std).flatten(), torch.tensor([0.0, 2.0, 1.0]))
