"""Noisy points around a curve: the toy data of attention as kernel regression (notes: attention cues)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..recipes.ranges import Count, NonNegative, Positive, Seed
from ..storage.store import Column

ROWS_PER_PART = 8192


class Curve:
    """Points y = 2 sin(x) + x^0.8 + noise * e, with e standard normal and x uniform in 0 ... `end`.

    train, validation, test: examples of each split. x, y: float32 []. As in d2l's chapter on Nadaraya-Watson.
    """

    name = "curve"
    licence = "CC0"
    source = "drawn here"
    classes: list[str] = []  # noqa: RUF012  (never written to)

    def __init__(
        self,
        train: Count = 100,
        validation: Count = 100,
        test: Count = 500,
        end: Positive = 5.0,
        noise: NonNegative = 0.5,
        seed: Seed = 0,
    ) -> None:
        self.rows = {"train": train, "validation": validation, "test": test}
        self.end = end
        self.noise = noise
        self.seed = seed
        self.columns = {"x": Column("float32"), "y": Column("float32")}

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}."""
        return {split: -(-rows // ROWS_PER_PART) for split, rows in self.rows.items()}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the points of one part, in random order of x."""
        random = np.random.default_rng([self.seed, list(self.rows).index(split), part])
        count = min(ROWS_PER_PART, self.rows[split] - part * ROWS_PER_PART)
        x = random.uniform(0, self.end, count)
        y = noiseless_curve(x) + self.noise * random.standard_normal(count)
        for x_value, y_value in zip(x.astype(np.float32), y.astype(np.float32), strict=True):
            yield {"x": x_value, "y": y_value}


def noiseless_curve(x: np.ndarray) -> np.ndarray:
    """Return 2 sin(x) + x^0.8 for x >= 0."""
    return 2 * np.sin(x) + x**0.8
