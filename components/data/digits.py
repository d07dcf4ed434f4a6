"""Handwritten digits, 8x8 pixels of 17 grey levels, which come with scikit-learn: 1,797 examples, no download."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import Refusal
from ..recipes.ranges import Count, Natural, NonNegative
from ..storage.order import balanced_rows
from ..storage.store import Column

SIDE = 8  # pixels
LEVELS = 16  # the highest grey level
TOTAL = 1797  # examples
SPLITS = ("train", "validation", "test")


class Digits:
    """A training split of `labels` examples, equally many of each digit and drawn by `seed`; the rest is for testing.

    size: side of each digit in pixels
    validation: examples held out of the rest as the validation split, equally many of each digit, too
    pool: number of examples, the training ones among them, that the other splits have none of: a model may have been
    pretrained on them without labels, as the training split of `labels: pool` (None: the training split alone)
    canvas: side of an empty picture in which each digit is placed at random (None: no margin)
    turn: greatest angle in degrees by which each digit is turned at random, to either side
    """

    name = "digits"
    licence = "CC BY 4.0"
    source = "E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI 1998; the copy in scikit-learn"

    def __init__(
        self,
        labels: Count = 100,
        size: Count = 16,
        seed: Natural = 0,
        validation: Natural = 0,
        canvas: Count | None = None,
        pool: Count | None = None,
        turn: NonNegative = 0.0,
    ) -> None:
        self.classes = [str(digit) for digit in range(10)]
        if not len(self.classes) <= labels < TOTAL:
            raise Refusal(f"labels: {labels} of {TOTAL} digits can't be split; give {len(self.classes)} to {TOTAL - 1}")
        if pool is not None and not labels <= pool < TOTAL:
            raise Refusal(f"pool: {pool} must be from {labels} (labels) to {TOTAL - 1}; change it")
        if (pool or labels) + validation >= TOTAL:
            raise Refusal(
                f"validation: {pool or labels} + {validation} of {TOTAL} digits leave none to test on; ask for fewer"
            )
        if canvas is not None and canvas < size:
            raise Refusal(f"canvas: digits of size {size} do not fit into {canvas}; give at least {size}")
        self.labels = labels
        self.pool = pool
        self.size = size
        self.seed = seed
        self.validation = validation
        self.canvas = canvas
        self.turn = turn
        side = canvas or size
        self.columns = {"image": Column("uint8", (side, side, 1)), "label": Column("int64")}

    def parts(self) -> dict[str, int]:
        """Return {split: 1} for each split that has examples."""
        return {split: 1 for split in SPLITS if split != "validation" or self.validation}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the digits of a split."""
        from sklearn.datasets import load_digits

        levels, targets = load_digits(return_X_y=True)
        rows = self._split_rows(split, targets)
        images = resize_digits(levels[rows].reshape(-1, SIDE, SIDE), self.size)
        if self.turn:
            images = turn_pictures(images, self.turn, np.random.default_rng([self.seed, SPLITS.index(split), 1]))
        if self.canvas is not None:
            random = np.random.default_rng([self.seed, SPLITS.index(split)])
            images = place_on_canvas(images, self.canvas, random)
        for image, label in zip(images, targets[rows], strict=True):
            yield {"image": image, "label": int(label)}

    def _split_rows(self, split: str, targets: np.ndarray) -> np.ndarray:
        """Return the rows of scikit-learn's digits in a split: int64 [N], ascending."""
        pool = balanced_rows(targets, self.pool or self.labels, self.seed)
        if split == "train":
            return pool if self.pool is None else pool[balanced_rows(targets[pool], self.labels, self.seed)]
        others = np.setdiff1d(np.arange(len(targets)), pool)
        validation = others[balanced_rows(targets[others], self.validation, self.seed)]
        return validation if split == "validation" else np.setdiff1d(others, validation)


def resize_digits(levels: np.ndarray, size: int) -> np.ndarray:
    """Resize pictures of levels 0..16 [N, 8, 8] bilinearly, with pixel centres at halves: uint8 [N, size, size, 1]."""
    weights = bilinear_matrix(levels.shape[-1], size)
    grey = weights @ (levels.astype(np.float32) * np.float32(255 / LEVELS)) @ weights.T
    return np.rint(grey).astype(np.uint8)[..., None]


def turn_pictures(images: np.ndarray, degrees: float, random: np.random.Generator) -> np.ndarray:
    """Turn each picture [N, s, s, C] about its centre by an angle from -degrees to degrees; cut off what leaves it."""
    from scipy.ndimage import rotate

    angles = random.uniform(-degrees, degrees, len(images))
    pairs = zip(images, angles, strict=True)
    return np.stack([rotate(image, angle, axes=(0, 1), reshape=False, order=1) for image, angle in pairs])


def place_on_canvas(images: np.ndarray, side: int, random: np.random.Generator) -> np.ndarray:
    """Place each picture [N, s, s, C] at random in an empty one: [N, side, side, C]."""
    count, size = images.shape[:2]
    places = random.integers(side - size + 1, size=(count, 2))
    canvases = np.zeros((count, side, side, images.shape[3]), dtype=images.dtype)
    for canvas, image, (row, column) in zip(canvases, images, places, strict=True):
        canvas[row : row + size, column : column + size] = image
    return canvases


def bilinear_matrix(old: int, new: int) -> np.ndarray:
    """Return the matrix [new, old] that resizes one side; each row sums to 1, and the border is repeated."""
    centres = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    return np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(old))).astype(np.float32)
