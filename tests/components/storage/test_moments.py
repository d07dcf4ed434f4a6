"""Moments of pictures: exact, and the same for any number of workers."""

from __future__ import annotations

from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.errors import Refusal
from components.storage import moments as module
from components.storage.moments import Moments, compute_moments
from components.storage.store import Column, Split, write_part


@pytest.fixture
def split(tmp_path: Path) -> Split:
    """Three parts with 395 random colour pictures."""
    paths = []
    for part, rows in enumerate((300, 5, 90)):
        images = (np.random.default_rng(part).random((rows, 6, 5, 3)) ** [1, 2, 3] * 255).astype(np.uint8)
        paths.append(tmp_path / f"{part}.arrow")
        write_part(paths[-1], {"image": Column("uint8", (6, 5, 3))}, ({"image": image} for image in images))
    return Split(paths)


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_statistics_match_numpy_for_any_number_of_workers(split: Split, workers: int) -> None:
    statistics = reduce(Moments.merge, [compute_moments(split, rank, workers) for rank in range(workers)]).finish()
    images = split.array("image") / 255
    assert statistics["mean"] == pytest.approx(images.mean((0, 1, 2)).tolist(), rel=1e-12)
    assert statistics["std"] == pytest.approx(images.std((0, 1, 2)).tolist(), rel=1e-12)
    assert statistics["count"] == 395
    assert statistics == compute_moments(split, 0, 1).finish()  # exactly


def test_statistics_stay_exact_where_floats_would_not() -> None:
    """Check 10^15 pixels of nearly one grey level, whose variance is lost in sums of float64."""
    moments = Moments(channels=1)
    moments.counts[0, 200], moments.counts[0, 201] = 10**15, 1
    moments.examples = 1
    assert moments.finish()["std"][0] == pytest.approx(10**-7.5 / 255, rel=1e-6)


def test_what_cannot_be_normalised_is_refused() -> None:
    with pytest.raises(Refusal, match="no picture"):
        Moments(channels=1).finish()
    moments = Moments(channels=2)
    moments.add(np.stack([np.arange(8).reshape(2, 2, 2), np.full((2, 2, 2), 7)], axis=3).astype(np.uint8))
    with pytest.raises(Refusal, match=r"channel 1 .* one grey level"):
        moments.finish()


def test_a_split_is_read_in_blocks(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    take = Split.take

    def record(self: Split, rows: np.ndarray, columns: list[str]) -> dict[str, Any]:
        sizes.append(len(rows))
        return take(self, rows, columns)

    monkeypatch.setattr(module, "BLOCK", 64)
    monkeypatch.setattr(Split, "take", record)
    compute_moments(split, 0, 1)
    assert sizes == [64] * 6 + [11]
