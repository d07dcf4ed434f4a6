"""What is worked out once, before training: normalisation, derived copies of pictures, and a preview to look at."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from components.data.order import fold
from components.data.store import Split, Store
from components.refusal import Refusal

BLOCK = 1024  # pictures in memory at once
Transform = Callable[[Tensor, torch.Generator], Tensor]


class Moments:
    """How often each grey level occurs in each channel: whole numbers, so that any split of the work adds up the same."""

    def __init__(self, channels: int) -> None:
        self.counts = np.zeros((channels, 256), dtype=np.int64)
        self.examples = 0

    def add(self, images: np.ndarray) -> None:
        """uint8 [B, H, W, C]."""
        for channel, counts in enumerate(self.counts):
            counts += np.bincount(images[..., channel].reshape(-1), minlength=256)
        self.examples += len(images)

    def merge(self, other: Moments) -> Moments:
        merged = Moments(len(self.counts))
        merged.counts, merged.examples = self.counts + other.counts, self.examples + other.examples
        return merged

    def finish(self) -> dict[str, Any]:
        """Mean and standard deviation of each channel [C] in units of 0..1, and the number of pictures."""
        if self.examples == 0:
            raise Refusal("the training split has no picture; prepare the data again with more of them")
        levels = range(256)
        mean, std = [], []
        for counts in self.counts.tolist():  # Python's whole numbers: no rounding before the last line
            n = sum(counts)
            total = sum(level * count for level, count in zip(levels, counts, strict=True))
            squares = sum(level * level * count for level, count in zip(levels, counts, strict=True))
            mean.append(total / n / 255)
            std.append(math.sqrt(n * squares - total * total) / n / 255)
        if 0.0 in std:
            raise Refusal(f"channel {std.index(0.0)} of the training pictures has one grey level everywhere; drop it")
        return {"mean": mean, "std": std, "count": self.examples}


def statistics(split: Split, rank: int, size: int) -> Moments:
    """Worker `rank`'s share of the moments of column "image" (uint8 [H, W, C])."""
    moments = Moments(split.columns["image"].inner[-1])
    for start in range(rank * BLOCK, len(split), size * BLOCK):
        moments.add(split.take(np.arange(start, min(start + BLOCK, len(split))), ["image"])["image"])
    return moments
