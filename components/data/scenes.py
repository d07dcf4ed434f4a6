"""Scenes of scikit-learn's handwritten digits on an uneven grey ground, with boxes around the digits: no download.

Each split is composed of its own handwritten examples, so no test scene shows a digit that was trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import Refusal
from ..recipes.ranges import Count, Fraction, Natural, Proportion
from ..storage.order import permute
from ..storage.store import Column
from .digits import SIDE, TOTAL, bilinear_matrix, resize_digits
from .masks import paint_classes, trace_boxes

ROWS_PER_PART = 50  # few, because what is derived from scenes may be slow
SHARES = {"train": 0.6, "validation": 0.15, "test": 0.25}  # of the handwritten examples
MAX_DIGITS = int(min(SHARES.values()) * TOTAL)  # per scene: all are different examples of its split
TRIES = 50  # places tried per digit
INKED = 0.35  # share of a pen's full strength from which a pixel belongs to the digit
TOUCHING = 0.02  # overlap of boxes up to which ink adds up where digits touch; above it the later ink hides the earlier
MIN_VISIBLE = 0.5  # share of a digit's ink that later digits leave uncovered

# Grey levels
GROUND = (20, 90)  # range of a scene's background
UNEVENNESS = 18.0  # standard deviation of its slow texture
NOISE = 5.0  # standard deviation of its noise per pixel
INK = (80, 150)  # range of the ink above the ground
PATCH = (15, 50)  # range of a patch of clutter above or below the ground


class Scenes:
    """Splits of `count`, `validation` and `test` scenes with 1 to `most` digits each and sides of `size` pixels.

    image uint8 [size, size, 1]; boxes float32 [digits, 4], tight around the visible ink (x1, y1, x2, y2 in pixels, the
    end exclusive); labels int64 [digits]; with `masks` also instances int16 and mask uint8 [size, size] (masks.py).

    smallest, largest: height of a digit, in sides of the scene
    overlap: share of a digit's box that another box may cover; the later digit hides the ink of the earlier one
    clutter: lines and patches behind the digits, at most
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
        smallest: Proportion = 0.2,
        largest: Proportion = 0.5,
        overlap: Fraction = TOUCHING,
        clutter: Natural = 0,
        masks: bool = False,
    ) -> None:
        if size * smallest < SIDE:
            raise Refusal(f"size: digits in scenes of {size} pixels can't be read; give at least {SIDE / smallest:.0f}")
        if smallest > largest:
            raise Refusal(f"smallest: {smallest:g} is more than largest, {largest:g}; give at most that")
        if most > MAX_DIGITS:
            raise Refusal(f"most: a scene can't have {most} different digits; give at most {MAX_DIGITS}")
        self.rows = {"train": count, "validation": validation, "test": test}
        self.most = most
        self.seed = seed
        self.composition = Composition(size, (round(smallest * size), round(largest * size)), overlap, clutter)
        self.masks = masks
        self.classes = [str(digit) for digit in range(10)]
        self.columns = {
            "image": Column("uint8", (size, size, 1)),
            "boxes": Column("float32", (None, 4)),
            "labels": Column("int64", (None,)),
        }
        if masks:
            self.columns |= {"instances": Column("int16", (size, size)), "mask": Column("uint8", (size, size))}

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
            image, instances, placed = compose_scene(levels[chosen], self.composition, random)
            labels = targets[chosen[placed]]
            example = {"image": image, "boxes": trace_boxes(instances, len(placed)), "labels": labels}
            if self.masks:
                example |= {"instances": instances, "mask": paint_classes(instances, labels)}
            yield example

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


@dataclass(frozen=True)
class Composition:
    """How a scene is composed: its side and the range of its digits' heights, in pixels, and as in `Scenes`."""

    size: int
    heights: tuple[int, int]
    overlap: float = TOUCHING
    clutter: int = 0


def compose_scene(
    levels: np.ndarray, composition: Composition, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compose digits of levels 0..16 [N, 8, 8] into a scene.

    Returns the scene uint8 [size, size, 1], the index map int16 [size, size], and the indices of the M placed digits.
    The first digit always fits; a later one is left out if none of TRIES random places leaves the others visible.
    """
    size = composition.size
    smooth = bilinear_matrix(6, size)
    ground = random.uniform(*GROUND) + smooth @ random.normal(0, UNEVENNESS, (6, 6)) @ smooth.T
    for _ in range(random.integers(0, composition.clutter + 1) if composition.clutter else 0):
        _add_clutter(ground, random)
    scene = ground.copy()
    instances = np.zeros((size, size), np.int16)
    boxes: list[np.ndarray] = []
    placed: list[int] = []
    areas: list[int] = []  # pixels of each placed digit, before others hide some
    for index, digit in enumerate(levels):
        side = int(random.integers(composition.heights[0], composition.heights[1] + 1))
        ink = resize_digits(digit[None], side)[0, ..., 0] / 255
        is_ink = ink >= INKED
        extent = trace_boxes(is_ink.astype(np.int16), 1)[0]
        for _ in range(TRIES):
            x, y = random.integers(0, size - side + 1, 2)
            box = extent + np.tile([x, y], 2)
            place = np.s_[y : y + side, x : x + side]
            free = all(_overlap(box, other) <= composition.overlap for other in boxes)
            if free and _leaves_visible(instances, instances[place][is_ink], areas):
                boxes.append(box)
                placed.append(index)
                areas.append(int(is_ink.sum()))
                instances[place][is_ink] = len(placed)
                stroke = random.uniform(*INK) * ink
                if composition.overlap > TOUCHING:
                    stroke += ground[place]
                    scene[place] = np.where(is_ink, stroke, np.maximum(scene[place], stroke))
                else:
                    scene[place] += stroke
                break
    scene = np.clip(scene + random.normal(0, NOISE, scene.shape), 0, 255)
    return np.rint(scene).astype(np.uint8)[..., None], instances, np.array(placed)


def _leaves_visible(instances: np.ndarray, covered: np.ndarray, areas: list[int]) -> bool:
    """Return whether at least MIN_VISIBLE of each placed digit of `areas` remains when its `covered` pixels go."""
    if not covered.any():
        return True
    counts = np.bincount(instances.ravel(), minlength=len(areas) + 1)
    counts -= np.bincount(covered, minlength=len(areas) + 1)
    return bool((counts[1:] >= MIN_VISIBLE * np.array(areas)).all())


def _add_clutter(ground: np.ndarray, random: np.random.Generator) -> None:
    """Add a line from edge to edge, or a patch brighter or darker than the ground, to `ground` [size, size]."""
    size = len(ground)
    rows, columns = np.mgrid[:size, :size] + 0.5
    x, y = random.uniform(0, size, 2)
    angle = random.uniform(0, np.pi)
    along = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
    across = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
    if random.random() < 0.5:
        strength = random.uniform(*INK)
        distance = np.abs(across) - random.uniform(0.5, 1.2)
    else:
        strength = random.uniform(*PATCH) * random.choice([-1, 1])
        width, height = random.uniform(0.1, 0.3, 2) * size
        distance = np.maximum(np.abs(along) - width, np.abs(across) - height)
    ground += strength * np.clip(0.5 - distance, 0, 1)


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Return the area of the intersection as a share of the smaller box."""
    width, height = np.maximum(0, np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]))
    return float(width * height / min(np.prod(a[2:] - a[:2]), np.prod(b[2:] - b[:2])))
