"""Glyphs are drawn in the pose that is asked for; captions, outlines and films follow from it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import rotate, shift

from components.data.captioned_glyphs import CaptionedGlyphs
from components.data.glyphs import FONTS
from components.data.posed_glyphs import HEIGHTS, Pose, PosedGlyphs, draw_depth, ink
from components.metrics.shape import measure_shapes

SANS = np.array([FONTS.index("DejaVuSans")])
SEVEN = np.array([7])


def draw(pose: Pose, size: int = 48) -> np.ndarray:
    return ink(draw_depth(SEVEN, SANS, pose, size))[0, ..., 0].astype(float)


def test_a_turn_and_a_shift_equal_scipys() -> None:
    size = 48
    upright = draw(Pose())
    turned = rotate(upright, 30, reshape=False, order=1)
    assert np.abs(draw(Pose(turn=np.radians(30))) - turned).mean() < 4
    assert np.abs(draw(Pose(turn=np.radians(-30))) - turned).mean() > 20
    moved = shift(upright, (3, 6), order=1)
    assert np.abs(draw(Pose(x=6 * HEIGHTS / size, y=3 * HEIGHTS / size)) - moved).mean() < 2


def test_the_slant_is_to_the_right_by_its_width_per_height() -> None:
    upright, slanted = (measure_shapes(draw(Pose(slant=s))[None, ..., None].astype(np.uint8)) for s in (0.0, 0.4))
    assert slanted["slant"] - upright["slant"] == pytest.approx(0.4, abs=0.05)


@pytest.mark.parametrize("dataset", [PosedGlyphs(per_class=4, size=16), CaptionedGlyphs(per_class=2)])
def test_examples_are_repeatable_and_splits_differ(dataset: PosedGlyphs | CaptionedGlyphs) -> None:
    first, again, test = (list(dataset.examples(split, 0)) for split in ("train", "train", "test"))
    assert len(first) == dataset.rows["train"]
    assert all(np.array_equal(a["image"], b["image"]) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0]["image"], test[0]["image"])
    assert [example["label"] for example in first] == [row % len(dataset.classes) for row in range(len(first))]


def test_captions_say_what_is_drawn() -> None:
    dataset = CaptionedGlyphs(per_class=8)
    examples = list(dataset.examples("train", 0))
    shapes = measure_shapes(np.stack([example["image"] for example in examples]))
    captions = [bytes(example["caption"]).rstrip(b"\0").decode() for example in examples]
    assert len(set(captions)) > 100, "several wordings of 40 classes"
    for example, caption in zip(examples, captions, strict=True):
        assert all(word in caption for word in dataset.classes[example["label"]].split())
    thick, slanted = (np.array([word in caption for caption in captions]) for word in ("thick", "slanted"))
    assert shapes["ink"][thick].mean() > 1.7 * shapes["ink"][~thick].mean()
    assert shapes["slant"][slanted].mean() - shapes["slant"][~slanted].mean() == pytest.approx(0.42, abs=0.08)
