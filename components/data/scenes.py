"""Scenes of scikit-learn's handwritten digits on a grey, uneven ground, with their boxes: no download.

Each split is composed of handwritten examples of its own, so that no test scene shows a digit that was trained on.
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

PART = 50  # scenes of a part file: few, for what is derived from them may be slow
SHARES = {"train": 0.6, "validation": 0.15, "test": 0.25}  # of the handwritten examples
SMALLEST, LARGEST = 0.2, 0.5  # a digit's height in sides of the scene
OVERLAP, TRIES = 0.02, 50  # the greatest share of a digit's box that another one may cover; places tried a digit
INKED = 0.35  # of a pen's full strength: from here on a pixel belongs to the digit
GROUND, UNEVEN, NOISE = (20, 90), 18.0, 5.0  # grey levels: of a scene's ground, standard deviations of its texture
MOST = int(min(SHARES.values()) * TOTAL)  # digits a scene: each is another one of its split's
STRONGER = (80, 150)  # grey levels of the ink above the ground


class Scenes:
    """`count` scenes to train on, `validation` and `test` more, of 1 to `most` digits each; sides of `size` pixels.

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
        if most > MOST:
            raise Refusal(f"most: there are no {most} different digits for a scene; give at most {MOST}")
        self.rows = {"train": count, "validation": validation, "test": test}
        self.most, self.size, self.seed = most, size, seed
        self.classes = [str(digit) for digit in range(10)]
        self.columns = {
            "image": Column("uint8", (size, size, 1)),
            "boxes": Column("float32", (None, 4)),
            "labels": Column("int64", (None,)),
        }

    def parts(self) -> dict[str, int]:
        return {split: -(-rows // PART) for split, rows in self.rows.items() if rows}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        levels, targets = self._digits
        own = self.handwriting[split]
        for row in range(part * PART, min(self.rows[split], (part + 1) * PART)):
            random = np.random.default_rng([self.seed, list(self.rows).index(split), row])
            chosen = random.choice(own, random.integers(1, self.most + 1), replace=False)
            image, boxes, placed = compose_scene(levels[chosen], self.size, random)
            yield {"image": image, "boxes": boxes, "labels": targets[chosen[placed]]}

    @cached_property
    def handwriting(self) -> dict[str, np.ndarray]:
        """Split -> the rows of scikit-learn's digits that its scenes are composed of: disjoint."""
        rows = permute(np.arange(TOTAL), TOTAL, self.seed, 5)
        cuts = np.rint(np.cumsum(list(SHARES.values()))[:-1] * TOTAL).astype(int)
        return dict(zip(SHARES, np.split(rows, cuts), strict=True))

    @cached_property
    def _digits(self) -> tuple[np.ndarray, np.ndarray]:
        from sklearn.datasets import load_digits

        levels, targets = load_digits(return_X_y=True)
        return levels.reshape(-1, SIDE, SIDE), targets.astype(np.int64)


def compose_scene(
    levels: np.ndarray, size: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Digits [N, 8, 8] of 0..16 -> (scene uint8 [size, size, 1], boxes float32 [M, 4], which were placed [M]).

    The first digit always finds its place; another one is left out after TRIES places that were taken.
    """
    smooth = bilinear_matrix(6, size)
    scene = random.uniform(*GROUND) + smooth @ random.normal(0, UNEVEN, (6, 6)) @ smooth.T
    boxes: list[np.ndarray] = []
    placed = []
    for index, digit in enumerate(levels):
        side = int(random.integers(round(SMALLEST * size), round(LARGEST * size) + 1))
        ink = resize_digits(digit[None], side)[0, ..., 0] / 255
        extent = _extent(ink >= INKED)
        for _ in range(TRIES):
            left, top = random.integers(0, size - side + 1, 2)
            box = extent + np.tile([left, top], 2)
            if all(_covered(box, other) <= OVERLAP for other in boxes):
                boxes.append(box)
                placed.append(index)
                scene[top : top + side, left : left + side] += random.uniform(*STRONGER) * ink
                break
    scene = np.clip(scene + random.normal(0, NOISE, scene.shape), 0, 255)
    return np.rint(scene).astype(np.uint8)[..., None], np.stack(boxes).astype(np.float32), np.array(placed)


def _extent(ink: np.ndarray) -> np.ndarray:
    """The box around what is set: x1, y1, x2, y2, the end exclusive."""
    columns, rows = np.flatnonzero(ink.any(0)), np.flatnonzero(ink.any(1))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def _covered(a: np.ndarray, b: np.ndarray) -> float:
    """The intersection as a share of the smaller box."""
    width, height = np.maximum(0, np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]))
    return float(width * height / min(np.prod(a[2:] - a[:2]), np.prod(b[2:] - b[:2])))
