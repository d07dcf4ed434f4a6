"""Scenes of scikit-learn's handwritten digits on an uneven grey ground, with boxes around the digits: no download.

Each split is composed of its own handwritten examples, so no test scene shows a digit that was trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import Refusal
from ..recipes.ranges import Count, Natural
from ..storage.order import permute
from ..storage.store import Column
from .digits import SIDE, TOTAL, bilinear_matrix, resize_digits

ROWS_PER_PART = 50  # few, because what is derived from scenes may be slow
SHARES = {"train": 0.6, "validation": 0.15, "test": 0.25}  # of the handwritten examples
MAX_DIGITS = int(min(SHARES.values()) * TOTAL)  # per scene: all are different examples of its split
SMALLEST = 0.2  # height of a digit, in sides of the scene
LARGEST = 0.5
MAX_OVERLAP = 0.02  # share of a digit's box that another box may cover
TRIES = 50  # places tried per digit
INKED = 0.35  # share of a pen's full strength from which a pixel belongs to the digit

# Grey levels
GROUND = (20, 90)  # range of a scene's background
UNEVENNESS = 18.0  # standard deviation of its slow texture
NOISE = 5.0  # standard deviation of its noise per pixel
INK = (80, 150)  # range of the ink above the ground


class Scenes:
    """Splits of `count`, `validation` and `test` scenes with 1 to `most` digits each and sides of `size` pixels.

    image uint8 [size, size, 1]; boxes float32 [digits, 4], tight around the ink (x1, y1, x2, y2 in pixels, the end
    exclusive); labels int64 [digits].
    """

    name = "scenes"
    licence = "CC BY 4.0"
    source = (
        "composed here of E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI 1998 (scikit-learn)"
    )

    def __init__(
        self,
        count: Count = 400,
        validation: Natural = 0,
        test: Count = 200,
        most: Count = 5,
        size: Count = 64,
        seed: Natural = 0,
    ) -> None:
        if size * SMALLEST < SIDE:
            raise Refusal(f"size: digits in scenes of {size} pixels can't be read; give at least {SIDE / SMALLEST:.0f}")
        if most > MAX_DIGITS:
            raise Refusal(f"most: a scene can't have {most} different digits; give at most {MAX_DIGITS}")
        self.rows = {"train": count, "validation": validation, "test": test}
        self.most = most
        self.size = size
        self.seed = seed
        self.classes = [str(digit) for digit in range(10)]
        self.columns = {
            "image": Column("uint8", (size, size, 1)),
            "boxes": Column("float32", (None, 4)),
            "labels": Column("int64", (None,)),
        }

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}, without an empty validation split."""
        return {split: -(-rows // ROWS_PER_PART) for split, rows in self.rows.items() if rows}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the scenes of one part, each from a random stream of its own."""
        levels, targets = self._digits
        candidates = self.handwriting[split]
        for row in range(part * ROWS_PER_PART, min(self.rows[split], (part + 1) * ROWS_PER_PART)):
            random = np.random.default_rng([self.seed, list(self.rows).index(split), row])
            chosen = random.choice(candidates, random.integers(1, self.most + 1), replace=False)
            image, boxes, placed = compose_scene(levels[chosen], self.size, random)
            yield {"image": image, "boxes": boxes, "labels": targets[chosen[placed]]}

    @cached_property
    def handwriting(self) -> dict[str, np.ndarray]:
        """Return {split: rows of scikit-learn's digits that its scenes are composed of}, which are disjoint."""
        rows = permute(np.arange(TOTAL), TOTAL, self.seed, 5)
        cuts = np.rint(np.cumsum(list(SHARES.values()))[:-1] * TOTAL).astype(int)
        return dict(zip(SHARES, np.split(rows, cuts), strict=True))

    @cached_property
    def _digits(self) -> tuple[np.ndarray, np.ndarray]:
        """Return levels 0..16 [N, 8, 8] and labels int64 [N] of scikit-learn's digits."""
        from sklearn.datasets import load_digits

        levels, targets = load_digits(return_X_y=True)
        return levels.reshape(-1, SIDE, SIDE), targets.astype(np.int64)


def compose_scene(
    levels: np.ndarray, size: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compose digits of levels 0..16 [N, 8, 8] into a scene.

    Returns the scene uint8 [size, size, 1], boxes float32 [M, 4], and the indices of the M placed digits. The first
    digit always fits; a later one is left out if TRIES random places overlap other digits.
    """
    smooth = bilinear_matrix(6, size)
    scene = random.uniform(*GROUND) + smooth @ random.normal(0, UNEVENNESS, (6, 6)) @ smooth.T
    boxes: list[np.ndarray] = []
    placed = []
    for index, digit in enumerate(levels):
        side = int(random.integers(round(SMALLEST * size), round(LARGEST * size) + 1))
        ink = resize_digits(digit[None], side)[0, ..., 0] / 255
        extent = _ink_box(ink >= INKED)
        for _ in range(TRIES):
            x, y = random.integers(0, size - side + 1, 2)
            box = extent + np.tile([x, y], 2)
            if all(_overlap(box, other) <= MAX_OVERLAP for other in boxes):
                boxes.append(box)
                placed.append(index)
                scene[y : y + side, x : x + side] += random.uniform(*INK) * ink
                break
    scene = np.clip(scene + random.normal(0, NOISE, scene.shape), 0, 255)
    return np.rint(scene).astype(np.uint8)[..., None], np.stack(boxes).astype(np.float32), np.array(placed)


def _ink_box(ink: np.ndarray) -> np.ndarray:
    """Return the box around the set pixels: x1, y1, x2, y2, the end exclusive."""
    columns = np.flatnonzero(ink.any(0))
    rows = np.flatnonzero(ink.any(1))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Return the area of the intersection as a share of the smaller box."""
    width, height = np.maximum(0, np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]))
    return float(width * height / min(np.prod(a[2:] - a[:2]), np.prod(b[2:] - b[:2])))
