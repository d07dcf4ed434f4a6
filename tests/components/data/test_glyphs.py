"""Glyphs: reproducible part by part, all different, and similar to the handwritten digits they replace."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from components.data import glyphs
from components.data.glyphs import CLASSES, FONTS, Glyphs, build_atlas, draw_glyphs


def part(data: Glyphs, split: str, number: int) -> tuple[np.ndarray, np.ndarray]:
    examples = list(data.examples(split, number))
    return np.stack([e["image"] for e in examples]), np.array([e["label"] for e in examples])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Glyphs:
    monkeypatch.setattr(glyphs, "ROWS_PER_PART", 150)
    monkeypatch.setattr(glyphs, "BLOCK", 64)
    return Glyphs(per_class=10, validation=2, size=16)


@pytest.fixture(scope="module")
def drawn_glyphs() -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(1800) % len(CLASSES)
    return draw_glyphs(labels, np.random.default_rng(0)), labels


def test_parts_are_pure_functions_of_seed_and_number(small: Glyphs) -> None:
    assert small.parts() == {"train": 3, "validation": 1}
    again = Glyphs(per_class=10, validation=2, size=16)
    for split, number in [("validation", 0), ("train", 2), ("train", 0), ("train", 1)]:  # in another order
        assert np.array_equal(part(small, split, number)[0], part(again, split, number)[0])
    assert not np.array_equal(part(small, "train", 0)[0], part(Glyphs(10, 2, 16, seed=1), "train", 0)[0])


def test_every_class_has_its_examples_and_no_two_are_the_same(small: Glyphs) -> None:
    parts = [part(small, "train", number) for number in range(3)]
    images, labels = (np.concatenate(pieces) for pieces in zip(*parts, strict=True))
    held_out, held_labels = part(small, "validation", 0)
    assert images.shape == (360, 16, 16, 1)
    assert images.dtype == np.uint8
    assert np.bincount(labels).tolist() == [10] * 36
    assert np.bincount(held_labels).tolist() == [2] * 36
    assert len({image.tobytes() for image in np.concatenate([images, held_out])}) == 360 + 72


def test_a_validation_split_is_optional() -> None:
    assert Glyphs(per_class=1, validation=0).parts() == {"train": 1}


def test_every_font_has_every_letter() -> None:
    depth = build_atlas().reshape(len(CLASSES), len(FONTS), -1)
    share = (depth > 0).mean(2)
    assert share.min() > 0.02
    assert share.max() < 0.4
    flat = (depth > 0).reshape(len(CLASSES) * len(FONTS), -1)
    assert len({shape.tobytes() for shape in flat}) == len(flat)  # a missing letter would be the same box each time


def test_the_depth_is_a_distance() -> None:
    """Check that neighbouring pixels differ by one pixel of distance at most (1/40 of a glyph's height)."""
    for axis in (1, 2):
        assert np.abs(np.diff(build_atlas(), axis=axis)).max() <= 1.01 / glyphs.GLYPH_HEIGHT


def test_glyphs_match_the_digits_ink_height_and_levels(drawn_glyphs: tuple) -> None:
    ours = drawn_glyphs[0]
    digits = load_digits().images
    assert ours.shape[1:] == digits.shape[1:]
    assert ours.min() == 0
    assert ours.max() == 16
    assert abs(ours.mean() - digits.mean()) < 0.1
    assert abs(ours.std() - digits.std()) < 0.5
    assert abs(ours.sum((1, 2)).std() - digits.sum((1, 2)).std()) < 5
    shares = [np.bincount(images.astype(int).ravel(), minlength=17) / images.size for images in (ours, digits)]
    assert np.abs(shares[0] - shares[1]).max() < 0.06
    rows = (ours > 0).any(2).mean(0)
    assert rows.min() > 0.98  # the digits fill the box from top to bottom, every one


def test_printed_digits_teach_to_read_handwritten_ones() -> None:
    digits, targets = load_digits(return_X_y=True)
    labels = np.arange(1500) % 10
    model = KNeighborsClassifier(5).fit(draw_glyphs(labels, np.random.default_rng(1)).reshape(-1, 64), labels)
    assert model.score(digits[:300], targets[:300]) > 0.4  # chance: 0.1
