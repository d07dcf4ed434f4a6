"""Letterboxes: proportions stay, boxes and index maps follow the pixels, and the geometry leads back."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from components.data.letterbox import GROUND, Letterbox, fit_boxes
from components.data.masks import trace_boxes

SIZES = [(64, 48), (30, 90), (200, 100), (64, 64), (7, 300), (1, 1)]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_proportions_stay_and_the_picture_is_in_the_middle(width: int, height: int) -> None:
    box = Letterbox(48, 96)
    x, y, new_width, new_height, *original = box.place(width, height)
    assert original == [width, height]
    assert new_width == 96 or new_height == 48
    assert abs(new_width - width * min(96 / width, 48 / height)) <= 0.5 or new_width == 1
    assert abs(x - (96 - x - new_width)) <= 1
    assert abs(y - (48 - y - new_height)) <= 1


def test_boxes_follow_the_object_and_the_geometry_leads_back() -> None:
    """Compare with the traced mask of the object."""
    random = np.random.default_rng(0)
    for _ in range(50):
        width, height = random.integers(40, 300, 2)
        instances = np.zeros((height, width), np.int16)
        x1, y1 = random.integers(0, width - 20), random.integers(0, height - 20)
        instances[y1 : y1 + random.integers(8, 20), x1 : x1 + random.integers(8, 20)] = 1
        box = trace_boxes(instances, 1)
        letterbox = Letterbox(96, 128)
        geometry = letterbox.place(width, height)
        fitted = fit_boxes(box, geometry)
        scale = geometry[2] / width
        assert np.abs(fitted - trace_boxes(letterbox.fit_map(instances), 1)).max() <= max(1.0, scale)
        restored = (fitted - np.tile(geometry[:2], 2)) / np.tile(geometry[2:4] / geometry[4:6], 2)
        assert np.allclose(restored, box, atol=1e-3)


def test_the_ground_is_grey_and_the_map_has_its_own() -> None:
    fitted, geometry = Letterbox(40, 40).fit_picture(Image.new("RGB", (20, 10), (255, 0, 9)))
    assert geometry.tolist() == [0, 10, 40, 20, 20, 10]
    assert (fitted[10:30] == [255, 0, 9]).all()
    assert (fitted[:10] == GROUND).all()
    assert (fitted[30:] == GROUND).all()
    labels = Letterbox(40, 40).fit_map(np.ones((10, 20), np.uint8), 255)
    assert (labels[10:30] == 1).all()
    assert (labels[:10] == 255).all()


def test_a_map_at_its_own_size_is_unchanged() -> None:
    labels = np.random.default_rng(0).integers(0, 9, (33, 57)).astype(np.uint8)
    assert np.array_equal(Letterbox(33, 57).fit_map(labels), labels)
