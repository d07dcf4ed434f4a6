"""A noisy sine as rows of an autoregressive model: `tau` values and the next one (notes: sequence models).

The series is cut by time, never shuffled ('never train on the future'): first training, then validation, then testing.
Each window and the value after it lie within one split, so held-out data share no value with training data.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import Refusal
from ..recipes.ranges import Count, NonNegative, Positive, Seed
from ..storage.store import Column

ROWS_PER_PART = 8192


class Sine:
    """Windows of the series sin(2 pi t / period) + noise * e_t, where the e_t are standard normal and independent.

    train, validation, test: values of the series in each split. Column x, float32 [tau], has the values at times
    time - tau ... time - 1; y is the value at `time`.
    """

    name = "sine"
    licence = "CC0"
    source = "drawn here"

    def __init__(
        self,
        train: Count = 1200,
        validation: Count = 400,
        test: Count = 1000,
        tau: Count = 4,
        period: Positive = 200.0,
        noise: NonNegative = 0.2,
        seed: Seed = 0,
    ) -> None:
        self.lengths = {"train": train, "validation": validation, "test": test}
        for name, length in self.lengths.items():
            if length <= tau:
                raise Refusal(f"{name}: {length} values are too few for a window of tau: {tau} and the next; raise it")
        self.tau = tau
        self.period = period
        self.noise = noise
        self.seed = seed
        self.classes: list[str] = []
        self.columns = {"x": Column("float32", (tau,)), "y": Column("float32"), "time": Column("int64")}

    @cached_property
    def series(self) -> np.ndarray:
        """Return the series of all splits, float32 [train + validation + test]."""
        time = np.arange(sum(self.lengths.values()))
        noise = self.noise * np.random.default_rng(self.seed).standard_normal(len(time))
        return (np.sin(2 * np.pi * time / self.period) + noise).astype(np.float32)

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}."""
        return {split: -(-(length - self.tau) // ROWS_PER_PART) for split, length in self.lengths.items()}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the windows of one part in the order of time."""
        names = list(self.lengths)
        begin = sum(self.lengths[name] for name in names[: names.index(split)])
        first = begin + self.tau + part * ROWS_PER_PART
        for time in range(first, min(first + ROWS_PER_PART, begin + self.lengths[split])):
            yield {"x": self.series[time - self.tau : time], "y": self.series[time], "time": time}
