"""Mean and standard deviation of each picture channel, from integer counts that are exact for any number of workers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import Refusal
from .store import Split

LEVELS = 256
BLOCK = 256  # pictures in memory at once


class Moments:
    """Counts of each grey level in each channel, int64 [C, 256]; integers add up the same in any order."""

    def __init__(self, channels: int) -> None:
        self.counts = np.zeros((channels, LEVELS), dtype=np.int64)
        self.examples = 0

    def add(self, images: np.ndarray) -> None:
        """Count the pixels of uint8 images [B, H, W, C]."""
        for channel, counts in enumerate(self.counts):
            counts += np.bincount(images[..., channel].reshape(-1), minlength=LEVELS)
        self.examples += len(images)

    def merge(self, other: Moments) -> Moments:
        """Return the moments of both sets of pictures together."""
        merged = Moments(len(self.counts))
        merged.counts = self.counts + other.counts
        merged.examples = self.examples + other.examples
        return merged

    def record(self) -> tuple[np.ndarray, int]:
        """Return (counts, examples), which workers can send to each other."""
        return self.counts, self.examples

    @classmethod
    def from_record(cls, counts: np.ndarray, examples: int) -> Moments:
        """Return the moments whose record this is."""
        moments = cls(len(counts))
        moments.counts, moments.examples = counts, examples
        return moments

    def finish(self) -> dict[str, Any]:
        """Return mean and standard deviation of each channel [C] in units of 0..1, and the number of pictures.

        Refuses no pictures at all, and a channel with a single grey level, which nothing can normalise.
        """
        if self.examples == 0:
            raise Refusal("the training split has no picture; prepare the data again with more of them")
        levels = range(LEVELS)
        mean = []
        std = []
        for counts in self.counts.tolist():  # Python's integers: nothing is rounded before the division
            n = sum(counts)
            total = sum(level * count for level, count in zip(levels, counts, strict=True))
            squares = sum(level * level * count for level, count in zip(levels, counts, strict=True))
            mean.append(total / n / 255)
            std.append(math.sqrt(n * squares - total * total) / n / 255)
        if 0.0 in std:
            raise Refusal(f"channel {std.index(0.0)} of the training pictures has one grey level everywhere; drop it")
        return {"mean": mean, "std": std, "count": self.examples}


def compute_moments(split: Split, rank: int, size: int, rows: np.ndarray | None = None) -> Moments:
    """Return the moments of column "image" (uint8 [H, W, C]) over the blocks of worker `rank` of `size` workers.

    rows: numbers of the rows that count (None: all).
    """
    rows = np.arange(len(split)) if rows is None else rows
    moments = Moments(split.columns["image"].inner_shape[-1])
    for start in range(rank * BLOCK, len(rows), size * BLOCK):
        moments.add(split.take(rows[start : start + BLOCK], ["image"])["image"])
    return moments
