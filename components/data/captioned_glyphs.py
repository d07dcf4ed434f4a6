"""Digits with a caption that says what they look like, such as "a thick seven, slanted": no download.

The caption follows from the attributes with which the digit is drawn (data/posed_glyphs.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..recipes.ranges import Count, Natural
from ..storage.store import Column
from .posed_glyphs import Pose, begin_part, count_parts, draw_depth, draw_fonts, ink, split_rows

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PENS = {"thin": (-0.015, 0.0), "thick": (0.05, 0.065)}  # range of what the pen adds to a stroke, in glyph heights
SLANTS = {"upright": (-0.06, 0.06), "slanted": (0.35, 0.5)}  # range of widths per height
WORDINGS = (
    "a {pen} {number}, {slant}",
    "a {pen}, {slant} {number}",
    "{number}, {pen} and {slant}",
    "the digit {number}: {slant}, {pen}",
)
LENGTH = 40  # letters of a caption, padded with 0


class CaptionedGlyphs:
    """Digits of `size` pixels a side, upright or slanted, thin or thick: 40 classes with `per_class` training examples.

    caption: uint8 [40], the ASCII codes of a description in one of four wordings, padded with 0. Validation and test
    split have a quarter as many examples, rounded up per class.
    """

    name = "captioned-glyphs"
    licence = "DejaVu (Bitstream Vera) and BaKoMa Computer Modern fonts, as matplotlib brings them"
    source = "drawn here from the fonts in matplotlib's own folder"

    def __init__(self, per_class: Count = 60, size: Count = 16, seed: Natural = 0) -> None:
        self.kinds = list(itertools.product(PENS, SLANTS, range(len(NUMBERS))))
        self.classes = [f"{pen} {slant} {NUMBERS[digit]}" for pen, slant, digit in self.kinds]
        self.rows = split_rows(per_class, len(self.classes))
        self.size = size
        self.seed = seed
        self.columns = {
            "image": Column("uint8", (size, size, 1)),
            "label": Column("int64"),
            "caption": Column("uint8", (LENGTH,)),
        }

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}."""
        return count_parts(self.rows)

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the glyphs of one part; the classes take turns."""
        labels, random = begin_part(self.rows, split, part, len(self.classes), self.seed)
        count = len(labels)
        kinds = [self.kinds[label] for label in labels]
        slant = random.uniform(*np.array([SLANTS[slant] for _, slant, _ in kinds]).T)
        pen = random.uniform(*np.array([PENS[pen] for pen, _, _ in kinds]).T)
        x, y = random.normal(0, 0.03, (2, count))
        pose = Pose(random.normal(0, 0.03, count), slant, random.uniform(0.9, 1.05, count), x, y)
        digits = np.array([digit for _, _, digit in kinds])
        images = ink(draw_depth(digits, draw_fonts(count, random), pose, self.size) + pen[:, None, None])
        for image, label, wording in zip(images, labels, random.integers(len(WORDINGS), size=count), strict=True):
            yield {"image": image, "label": int(label), "caption": encode_caption(self.describe(int(label), wording))}

    def describe(self, label: int, wording: int) -> str:
        """Return the caption of a class in one of the wordings."""
        pen, slant, digit = self.kinds[label]
        return WORDINGS[wording].format(pen=pen, slant=slant, number=NUMBERS[digit])


def encode_caption(caption: str) -> np.ndarray:
    """Return the ASCII codes of a caption, cut or padded with 0: uint8 [40]."""
    codes = np.zeros(LENGTH, np.uint8)
    letters = caption.encode("ascii", "replace")[:LENGTH]
    codes[: len(letters)] = list(letters)
    return codes
