"""Films of a digit that swings and moves, with the still at which it starts and the pose of each frame: no download."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..recipes.ranges import Count, Natural
from ..storage.store import Column
from .posed_glyphs import (
    DIGITS,
    PEN,
    Pose,
    PosedGlyphs,
    begin_part,
    count_parts,
    draw_depth,
    draw_fonts,
    ink,
    split_rows,
)

SWING = 0.5  # radians, the furthest turn
WAY = 0.12  # glyph heights, the furthest shift


class MovingGlyphs:
    """Films of `frames` frames of `size` pixels a side.

    source uint8 [size, size, 1]: the digit upright and in the middle. pose float32 [frames, 3]: turn, shift to the
    right and downward of each frame, in -1..1. image uint8 [size, size, frames]: the film, one channel per frame. There
    are `per_class` training examples, and a quarter as many for validation and testing each.
    """

    name = "moving-glyphs"
    licence = PosedGlyphs.licence
    source = PosedGlyphs.source

    def __init__(self, per_class: Count = 100, size: Count = 16, frames: Count = 6, seed: Natural = 0) -> None:
        self.rows = split_rows(per_class, len(DIGITS))
        self.size = size
        self.frames = frames
        self.seed = seed
        self.classes = list(DIGITS)
        self.columns = {
            "image": Column("uint8", (size, size, frames)),
            "source": Column("uint8", (size, size, 1)),
            "pose": Column("float32", (frames, 3)),
            "label": Column("int64"),
        }

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}."""
        return count_parts(self.rows)

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the films of one part; the classes take turns."""
        labels, random = begin_part(self.rows, split, part, len(DIGITS), self.seed)
        count = len(labels)
        fonts, pens = draw_fonts(count, random), random.uniform(*PEN, (count, 1, 1))
        slant = random.normal(0, 0.1, count)
        poses = draw_motion(count, self.frames, random)
        stills = ink(draw_depth(labels, fonts, Pose(slant=slant), self.size) + pens)
        films = [
            ink(draw_depth(labels, fonts, Pose(SWING * turn, slant, 1.0, WAY * x, WAY * y), self.size) + pens)
            for turn, x, y in poses.transpose(1, 2, 0)
        ]
        for still, film, pose, label in zip(stills, np.concatenate(films, 3), poses, labels, strict=True):
            yield {"source": still, "image": film, "pose": pose, "label": int(label)}


def draw_motion(count: int, frames: int, random: np.random.Generator) -> np.ndarray:
    """Return smooth random motions, three swinging numbers in -1..1 per frame: float32 [count, frames, 3]."""
    phase = random.uniform(0, 2 * np.pi, (count, 1, 3))
    speed = random.uniform(0.5, 1.2, (count, 1, 3))  # radians per frame
    size = random.uniform(0.3, 1, (count, 1, 3))
    return (size * np.sin(phase + speed * np.arange(frames)[:, None])).astype(np.float32)
