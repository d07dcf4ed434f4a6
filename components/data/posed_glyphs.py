"""Digits in a few upright fonts, drawn sharply at any size in a pose of known turn, slant, size and pen: no download.

Unlike `data.glyphs.Glyphs`, which imitates 8x8 handwriting, these have smooth edges at every size, and every attribute
of the drawing is at hand. Other data sets draw captions, outlines and films of them.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..recipes.ranges import Count, Natural, NonNegative
from ..storage.store import Column
from .glyphs import FONTS, build_atlas, sample_depth

FONT_NAMES = ("DejaVuSans", "DejaVuSansMono", "DejaVuSerif", "cmss10", "cmtt10")
DIGITS = string.digits
ROWS_PER_PART = 1024
HEIGHTS = 1.5  # glyph heights that the picture spans
PEN = (-0.01, 0.05)  # range of what the pen adds to each side of a stroke, in glyph heights


@dataclass(frozen=True)
class Pose:
    """How glyphs are drawn, each an array that can be broadcast to [N]."""

    turn: np.ndarray | float = 0.0  # radians, anticlockwise
    slant: np.ndarray | float = 0.0  # width per height; to the right where it is positive
    scale: np.ndarray | float = 1.0
    x: np.ndarray | float = 0.0  # of the middle, in glyph heights to the right
    y: np.ndarray | float = 0.0  # in glyph heights downward


class PosedGlyphs:
    """Digits with `per_class` training examples and a quarter as many for validation and testing each.

    size: side in pixels; turn, slant, shift: standard deviations, in radians, widths per height and glyph heights.
    """

    name = "posed-glyphs"
    licence = "DejaVu (Bitstream Vera) and BaKoMa Computer Modern fonts, as matplotlib brings them"
    source = "drawn here from the fonts in matplotlib's own folder"

    def __init__(
        self,
        per_class: Count = 200,
        size: Count = 32,
        turn: NonNegative = 0.1,
        slant: NonNegative = 0.15,
        shift: NonNegative = 0.03,
        seed: Natural = 0,
    ) -> None:
        self.rows = split_rows(per_class, len(DIGITS))
        self.size = size
        self.turn = turn
        self.slant = slant
        self.shift = shift
        self.seed = seed
        self.classes = list(DIGITS)
        self.columns = {"image": Column("uint8", (size, size, 1)), "label": Column("int64")}

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}."""
        return count_parts(self.rows)

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the glyphs of one part; the classes take turns."""
        labels, random = begin_part(self.rows, split, part, len(DIGITS), self.seed)
        count = len(labels)
        turn, slant = self.turn * random.standard_normal(count), self.slant * random.standard_normal(count)
        x, y = self.shift * random.standard_normal((2, count))
        pose = Pose(turn, slant, random.uniform(0.9, 1.1, count), x, y)
        depth = draw_depth(labels, draw_fonts(count, random), pose, self.size)
        images = ink(depth + random.uniform(*PEN, (count, 1, 1)))
        for image, label in zip(images, labels, strict=True):
            yield {"image": image, "label": int(label)}


def split_rows(per_class: int, classes: int) -> dict[str, int]:
    """Return {split: rows}: validation and test split have a quarter of the training examples, rounded up per class."""
    held_out = -(-per_class // 4) * classes
    return {"train": per_class * classes, "validation": held_out, "test": held_out}


def count_parts(rows: dict[str, int]) -> dict[str, int]:
    """Return {split: number of parts} of splits with `rows` examples."""
    return {split: -(-count // ROWS_PER_PART) for split, count in rows.items()}


def begin_part(
    rows: dict[str, int], split: str, part: int, classes: int, seed: int
) -> tuple[np.ndarray, np.random.Generator]:
    """Return the labels of one part, whose classes take turns, int64 [N], and its random stream."""
    first, last = part * ROWS_PER_PART, min((part + 1) * ROWS_PER_PART, rows[split])
    return np.arange(first, last) % classes, np.random.default_rng([seed, list(rows).index(split), part])


def draw_fonts(count: int, random: np.random.Generator) -> np.ndarray:
    """Return numbers in `data.glyphs.FONTS`, each one of FONT_NAMES: int64 [N]."""
    return np.array([FONTS.index(name) for name in FONT_NAMES])[random.integers(len(FONT_NAMES), size=count)]


def draw_depth(labels: np.ndarray, fonts: np.ndarray, pose: Pose, size: int) -> np.ndarray:
    """Return the depth below the edge of digits `labels` [N] in `fonts` [N], in glyph heights: float32 [N, size, size].

    It is negative outside the glyph; `ink` and other thresholds make pictures of it.
    """
    glyphs = build_atlas()[labels * len(FONTS) + fonts]
    turn, slant, scale, shift_x, shift_y = (
        np.broadcast_to(value, len(labels)).reshape(-1, 1, 1)
        for value in (pose.turn, pose.slant, pose.scale, pose.x, pose.y)
    )
    line = ((np.arange(size) + 0.5) / size - 0.5) * HEIGHTS
    right, down = line - shift_x, line[:, None] - shift_y
    x = (np.cos(turn) * right - np.sin(turn) * down) / scale
    y = (np.sin(turn) * right + np.cos(turn) * down) / scale
    return (sample_depth(glyphs, x + slant * y, y) * scale).astype(np.float32)


def ink(depth: np.ndarray) -> np.ndarray:
    """Return pictures uint8 [..., S, S, 1] of depths [..., S, S]: white inside, black outside, grey on the edge."""
    pixels = depth.shape[-1] / HEIGHTS  # per glyph height
    return np.rint(255 * np.clip(0.5 + depth * pixels, 0, 1)).astype(np.uint8)[..., None]
