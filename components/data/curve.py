"""Points around a curve: the toy of attention as kernel regression (notes: attention cues; d2l, Nadaraya-Watson)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..recipes.ranges import Count, NonNegative, Positive, Seed
from ..storage.store import Column

PART = 8192  # rows


class Curve:
    """y = 2 sin(x) + x^0.8 + noise * e, e standard normal; x even on 0 ... `end`, drawn at random, in a row's order.

    train, validation, test: examples of each split. x, y: float32 [].
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
        self.end, self.noise, self.seed = end, noise, seed
        self.columns = {"x": Column("float32"), "y": Column("float32")}

    def parts(self) -> dict[str, int]:
        return {split: -(-rows // PART) for split, rows in self.rows.items()}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        random = np.random.default_rng([self.seed, list(self.rows).index(split), part])
        count = min(PART, self.rows[split] - part * PART)
        x = random.uniform(0, self.end, count)
        y = noiseless_curve(x) + self.noise * random.standard_normal(count)
        for one, value in zip(x.astype(np.float32), y.astype(np.float32), strict=True):
            yield {"x": one, "y": value}


def noiseless_curve(x: np.ndarray) -> np.ndarray:
    """Without the noise; x >= 0."""
    return 2 * np.sin(x) + x**0.8
