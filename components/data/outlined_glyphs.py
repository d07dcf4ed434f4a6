"""Pairs of a glyph's outline and the hatched glyph: image translation with more than one right answer, no download.

Where the hatching begins does not show in the outline. So the answer with the least mean error is an even grey.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..recipes.ranges import Count, Natural, Positive
from ..storage.store import Column
from .posed_glyphs import DIGITS, Pose, PosedGlyphs, begin_part, count_parts, draw_depth, draw_fonts, ink, split_rows

LINE = 0.03  # half width of the outline, in glyph heights
PEN = (0.05, 0.08)  # range of what the pen adds to each side of a stroke: room for the hatching


class OutlinedGlyphs:
    """Digits of `size` pixels a side: "source" is the outline, "image" the same digit, filled with diagonal lines.

    There are `per_class` training examples, and a quarter as many for validation and testing each. period: of the
    lines, in pixels to the right.
    """

    name = "outlined-glyphs"
    licence = PosedGlyphs.licence
    source = PosedGlyphs.source

    def __init__(self, per_class: Count = 100, size: Count = 32, period: Positive = 6.0, seed: Natural = 0) -> None:
        self.rows = split_rows(per_class, len(DIGITS))
        self.size = size
        self.period = period
        self.seed = seed
        self.classes = list(DIGITS)
        picture = Column("uint8", (size, size, 1))
        self.columns = {"image": picture, "source": picture, "label": Column("int64")}

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}."""
        return count_parts(self.rows)

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the pairs of one part; the classes take turns."""
        labels, random = begin_part(self.rows, split, part, len(DIGITS), self.seed)
        count = len(labels)
        pose = Pose(random.normal(0, 0.1, count), random.normal(0, 0.15, count), random.uniform(0.95, 1.1, count))
        depth = draw_depth(labels, draw_fonts(count, random), pose, self.size)
        depth += random.uniform(*PEN, (count, 1, 1)).astype(np.float32)
        diagonal = np.add.outer(np.arange(self.size), np.arange(self.size)) / self.period
        lines = np.cos(2 * np.pi * (diagonal + random.uniform(size=(count, 1, 1))))
        hatched = ink(depth) * np.clip(0.6 + lines[..., None], 0.1, 1)
        for outline, image, label in zip(ink(LINE - np.abs(depth)), hatched, labels, strict=True):
            yield {"source": outline, "image": np.rint(image).astype(np.uint8), "label": int(label)}
