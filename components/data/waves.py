"""Several noisy waves that drive each other: a table over time that needs no download."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from ..recipes.ranges import Count, NonNegative, Seed
from .windows import check_lengths, count_windows, cut_windows, window_columns

ROWS_PER_PART = 4096


class Waves:
    """Windows of three series: a daily wave, a weekly one, and their product 6 steps later; all with noise.

    train, validation, test: rows of each split, one after the other, never shuffled. window, horizon: rows that are
    read and that are predicted, all within one split. Columns as in `data.series_table.SeriesTable`; all three series
    are predicted.
    """

    name = "waves"
    licence = "CC0"
    source = "drawn here"

    def __init__(
        self,
        train: Count = 1600,
        validation: Count = 400,
        test: Count = 600,
        window: Count = 48,
        horizon: Count = 12,
        noise: NonNegative = 0.2,
        seed: Seed = 0,
    ) -> None:
        self.lengths = {"train": train, "validation": validation, "test": test}
        check_lengths(self.lengths, window, horizon)
        self.window = window
        self.horizon = horizon
        self.noise = noise
        self.seed = seed
        self.classes = ["daily", "weekly", "product"]  # the columns to predict
        self.columns = window_columns(window, 3, horizon, 3)

    @cached_property
    def series(self) -> np.ndarray:
        """Return the series, float32 [rows, 3]."""
        time = np.arange(sum(self.lengths.values()) + 6)
        daily, weekly = np.sin(2 * np.pi * time / 24), np.cos(2 * np.pi * time / 168)
        noise = self.noise * np.random.default_rng(self.seed).standard_normal((len(time), 3))
        clean = np.stack([daily, weekly, np.roll(daily * weekly, 6)], 1)
        return (10 + 5 * (clean + noise))[6:].astype(np.float32)

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}."""
        return {name: -(-self._count(name) // ROWS_PER_PART) for name in self.lengths}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the windows of one part in the order of time."""
        names = list(self.lengths)
        first = sum(self.lengths[name] for name in names[: names.index(split)])
        values = self.series[first : first + self.lengths[split]]
        windows = range(part * ROWS_PER_PART, min((part + 1) * ROWS_PER_PART, self._count(split)))
        return cut_windows(values, range(3), self.window, self.horizon, 1, first, windows)

    def _count(self, split: str) -> int:
        return count_windows(self.lengths[split], self.window, self.horizon, 1)
