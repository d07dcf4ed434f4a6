"""Handwritten digits, 8x8 pixels of 17 grey levels, that come with scikit-learn: 1,797 examples, no download."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import Refusal
from ..recipes.ranges import Count, Natural
from ..storage.order import balanced_rows
from ..storage.store import Column

SIDE, LEVELS = 8, 16
TOTAL = 1797


class Digits:
    """`labels` examples to train on, equally many of each digit, drawn by `seed`; all others are the test split.

    validation: so many of the others make a validation split, equally many of each digit, too. canvas: side of an empty
    picture in which each digit, `size` a side, lies anywhere.
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
    ) -> None:
        self.classes = [str(digit) for digit in range(10)]
        if not len(self.classes) <= labels < TOTAL:
            raise Refusal(f"labels: {labels} of {TOTAL} digits can't be split; give {len(self.classes)} to {TOTAL - 1}")
        if labels + validation >= TOTAL:
            raise Refusal(f"validation: {labels} + {validation} of {TOTAL} digits leave none to test on; ask for fewer")
        if canvas is not None and canvas < size:
            raise Refusal(f"canvas: digits of size {size} do not fit into {canvas}; give at least {size}")
        self.labels, self.size, self.seed, self.validation, self.canvas = labels, size, seed, validation, canvas
        side = canvas or size
        self.columns = {"image": Column("uint8", (side, side, 1)), "label": Column("int64")}

    def parts(self) -> dict[str, int]:
        return {"train": 1, **({"validation": 1} if self.validation else {}), "test": 1}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        from sklearn.datasets import load_digits

        levels, targets = load_digits(return_X_y=True)
        rows = balanced_rows(targets, self.labels, self.seed)
        if split != "train":
            others = np.setdiff1d(np.arange(len(targets)), rows)
            watched = others[balanced_rows(targets[others], self.validation, self.seed)]
            rows = watched if split == "validation" else np.setdiff1d(others, watched)
        images = resize_digits(levels[rows].reshape(-1, SIDE, SIDE), self.size)
        if self.canvas is not None:
            random = np.random.default_rng([self.seed, ("train", "validation", "test").index(split)])
            images = place_on_canvas(images, self.canvas, random)
        for image, label in zip(images, targets[rows], strict=True):
            yield {"image": image, "label": int(label)}


def resize_digits(levels: np.ndarray, size: int) -> np.ndarray:
    """Pictures of 0..16 levels [N, 8, 8] resized bilinearly (pixel centres at halves): uint8 [N, size, size, 1]."""
    weights = bilinear_matrix(levels.shape[-1], size)
    grey = weights @ (levels.astype(np.float32) * np.float32(255 / LEVELS)) @ weights.T
    return np.rint(grey).astype(np.uint8)[..., None]


def place_on_canvas(images: np.ndarray, side: int, random: np.random.Generator) -> np.ndarray:
    """Pictures [N, s, s, C], each anywhere in an empty one: [N, side, side, C]."""
    count, size = images.shape[:2]
    places = random.integers(side - size + 1, size=(count, 2))
    whole = np.zeros((count, side, side, images.shape[3]), dtype=images.dtype)
    for canvas, image, (row, column) in zip(whole, images, places, strict=True):
        canvas[row : row + size, column : column + size] = image
    return whole


def bilinear_matrix(old: int, new: int) -> np.ndarray:
    """The matrix [new, old] that resizes one side; each row sums to 1, the border is repeated."""
    centres = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    return np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(old))).astype(np.float32)
