"""Profiles of prepared pictures: how often each value of three per-picture summaries occurs, and each label.

Counts are exact for any number of workers, and a few kilobytes describe any number of pictures. A profile is part of
the statistics of an exported model, so the data that a champion was trained on can be compared with new data.
"""

from __future__ import annotations

import numpy as np

from .store import Split

SUMMARIES = ("brightness", "contrast", "detail")
VALUES = 256
BLOCK = 256  # pictures in memory at once


class Profile:
    """Counts of each summary's values, int64 [256], and of the labels."""

    def __init__(self) -> None:
        self.counts = {name: np.zeros(VALUES, dtype=np.int64) for name in SUMMARIES}
        self.labels: dict[int, int] = {}

    def add(self, images: np.ndarray, labels: np.ndarray | None = None) -> None:
        """Count uint8 images [B, H, W, C] and their labels [B], if there are any."""
        for name, values in summarize_images(images).items():
            self.counts[name] += np.bincount(values, minlength=VALUES)
        if labels is not None:
            for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
                self.labels[int(label)] = self.labels.get(int(label), 0) + int(count)

    def merge(self, other: Profile) -> Profile:
        """Return the profile of both sets of pictures together."""
        merged = Profile()
        merged.counts = {name: self.counts[name] + other.counts[name] for name in SUMMARIES}
        labels = self.labels.keys() | other.labels.keys()
        merged.labels = {label: self.labels.get(label, 0) + other.labels.get(label, 0) for label in labels}
        return merged

    def record(self) -> tuple[dict[str, np.ndarray], dict[int, int]]:
        """Return (counts, labels), which workers can send to each other."""
        return self.counts, self.labels

    @classmethod
    def from_record(cls, counts: dict[str, np.ndarray], labels: dict[int, int]) -> Profile:
        """Return the profile whose record this is."""
        profile = cls()
        profile.counts, profile.labels = counts, labels
        return profile

    def finish(self) -> dict[str, dict[str, int]]:
        """Return {summary: {value: count}, "label": {label: count}} without zeros; the keys are strings, for JSON."""
        profile = {
            name: {str(value): int(counts[value]) for value in np.flatnonzero(counts)}
            for name, counts in self.counts.items()
        }
        profile["label"] = {str(label): self.labels[label] for label in sorted(self.labels)}
        return profile


def summarize_images(images: np.ndarray) -> dict[str, np.ndarray]:
    """Return three integers in 0..255 for each image, int64 [B], of uint8 images [B, H, W, C].

    brightness: the mean; contrast: twice the standard deviation; detail: twice the mean step between neighbours in a
    row. Sums are of integers, so they are exact in any order.
    """
    pixels = images.reshape(len(images), -1).astype(np.int64)
    count = pixels.shape[1]
    total = pixels.sum(1)
    squares = (pixels * pixels).sum(1)
    deviation = np.sqrt(np.maximum(count * squares - total * total, 0)) / count
    steps = np.abs(np.diff(images.astype(np.int16), axis=2)).reshape(len(images), -1)
    detail = steps.sum(1) / max(1, steps.shape[1])
    summaries = {"brightness": total / count, "contrast": 2 * deviation, "detail": 2 * detail}
    return {name: np.minimum(np.rint(values), VALUES - 1).astype(np.int64) for name, values in summaries.items()}


def compute_profile(split: Split, rank: int = 0, size: int = 1) -> Profile:
    """Return the profile of a split over the blocks of worker `rank` of `size` workers."""
    profile = Profile()
    names = [name for name in ("image", "label") if name in split.columns]
    for start in range(rank * BLOCK, len(split), size * BLOCK):
        batch = split.take(np.arange(start, min(start + BLOCK, len(split))), names)
        profile.add(batch["image"], batch.get("label"))
    return profile
