"""Selective search: nearly every object has a proposal, and the same picture always gets the same ones."""

from __future__ import annotations

import ctypes
from functools import partial

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from components.data.digits import Digits
from components.data.proposals import Search, SelectiveSearch
from components.data.scenes import Scenes
from components.errors import Refusal
from components.storage.dataset import write_job
from components.storage.store import Column, Store, write_manifest

SMALL = partial(Scenes, count=50, test=3)


def test_nearly_every_digit_is_proposed() -> None:
    """Check the recall at an IoU of 0.5."""
    best = []
    for example in SelectiveSearch(SMALL).examples("train", 0):
        boxes, proposals = (torch.from_numpy(example[name]) for name in ("boxes", "proposals"))
        best += box_iou(boxes, proposals).max(1).values.tolist()
        assert 10 < len(proposals) <= 100
    assert np.mean(np.array(best) >= 0.5) >= 0.97


@pytest.mark.parametrize("most", [30, 1000])
def test_the_same_picture_gets_the_same_boxes(most: int) -> None:
    """Check that boxes do not depend on the state of the C library's rand(), by which OpenCV sorts."""
    image = next(iter(Scenes().examples("train", 0)))["image"]
    first = Search(most=most)(image)
    ctypes.CDLL(None).srand(12345)
    again = Search(most=most)(image)
    assert np.array_equal(first, again)
    assert first.dtype == np.float32
    assert len(np.unique(first, axis=0)) == len(first) == (30 if most == 30 else len(again))


def test_boxes_are_in_the_pictures_own_pixels() -> None:
    """Search for a bright rectangle on a dark ground, in grey and in colour, in its own size and enlarged."""
    image = np.full((60, 80, 1), 30, np.uint8)
    image[20:45, 30:70] = 220
    for picture in (image, np.repeat(image, 3, 2)):
        for enlarge in (1, 3):
            proposals = Search(enlarge=enlarge)(picture)
            overlap = box_iou(torch.tensor([[30.0, 20, 70, 45]]), torch.from_numpy(proposals))
            assert overlap.max() > 0.85
            assert (proposals >= 0).all()
            assert (proposals[:, 2:] <= [80, 60]).all()


def test_colours_reach_opencv_in_its_own_order() -> None:
    """Check that OpenCV gets blue, green, red; with red, green, blue it finds other regions."""
    import cv2

    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    proposals = Search(most=10**6, enlarge=1, smallest=1, largest=1.0)(image)
    by_order = []
    for pixels in (image[..., ::-1], image):
        search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
        search.setBaseImage(np.ascontiguousarray(pixels))
        search.switchToSelectiveSearchFast(50, 100, 0.5)
        by_order.append({(x, y, x + w, y + h) for x, y, w, h in search.process().tolist()})
    assert set(map(tuple, proposals.tolist())) == by_order[0] != by_order[1]


def test_sides_and_areas_are_bounded_and_a_plain_picture_has_none() -> None:
    image = next(iter(Scenes(seed=3).examples("train", 0)))["image"]
    proposals = Search(most=1000, smallest=10, largest=0.1)(image)
    sides = proposals[:, 2:] - proposals[:, :2]
    assert len(proposals) > 0
    assert (sides >= 10).all()
    assert (sides.prod(1) <= 0.1 * 64 * 64).all()
    assert Search()(np.zeros((32, 32, 1), np.uint8)).shape == (0, 4)


def test_the_wrapped_data_set_is_unchanged(tmp_path) -> None:
    data = SelectiveSearch(SMALL, partial(Search, most=20))
    plain = SMALL()
    assert data.parts() == {"train": 1, "test": 1} == plain.parts()
    assert data.columns == plain.columns | {"proposals": Column("float32", (None, 4))}
    assert (data.name, data.classes, data.licence) == (plain.name, plain.classes, plain.licence)
    write_manifest(tmp_path, data, {"test": [write_job(data, tmp_path, "test", 0)]})
    stored = Store(tmp_path).split("test").take(np.arange(3))
    for row, example in enumerate(plain.examples("test", 0)):
        assert np.array_equal(stored["image"][row], example["image"])
        assert np.array_equal(stored["boxes"][row], example["boxes"])
        assert np.array_equal(stored["proposals"][row], Search(most=20)(example["image"]))


def test_a_data_set_without_pictures_is_refused() -> None:
    class Flat(Digits):
        def __init__(self) -> None:
            super().__init__()
            self.columns = {"label": Column("int64")}

    with pytest.raises(Refusal, match="digits has no column 'image'"):
        SelectiveSearch(Flat)
