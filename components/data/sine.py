"""A sine with noise as rows of an autoregressive model: `tau` values, and the one after them (notes: sequence models).

The series is cut by time, never shuffled (notes: 'never train on the future'): its first part is for training, the next
for validation, the last for testing. A window lies in one part whole, the value after it too: what is held out shares
no value with what is learned from.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import Refusal
from ..recipes.ranges import Count, NonNegative, Positive, Seed
from ..storage.store import Column

PART = 8192  # rows


class Sine:
    """Value t of the series is sin(2 pi t / period) + noise * e_t, the e_t standard normal and independent.

    x float32 [tau]: values time - tau ... time - 1; y: value `time`. train, validation, test: values of each part.
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
                raise Refusal(f"{name}: {length} values hold no window of tau: {tau} and the one after it; raise it")
        self.tau, self.period, self.noise, self.seed = tau, period, noise, seed
        self.classes: list[str] = []
        self.columns = {"x": Column("float32", (tau,)), "y": Column("float32"), "time": Column("int64")}

    @cached_property
    def series(self) -> np.ndarray:
        """The whole of it, float32 [train + validation + test]."""
        time = np.arange(sum(self.lengths.values()))
        noise = self.noise * np.random.default_rng(self.seed).standard_normal(len(time))
        return (np.sin(2 * np.pi * time / self.period) + noise).astype(np.float32)

    def parts(self) -> dict[str, int]:
        return {split: -(-(length - self.tau) // PART) for split, length in self.lengths.items()}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        names = list(self.lengths)
        begin = sum(self.lengths[name] for name in names[: names.index(split)])
        first = begin + self.tau + part * PART
        for time in range(first, min(first + PART, begin + self.lengths[split])):
            yield {"x": self.series[time - self.tau : time], "y": self.series[time], "time": time}
