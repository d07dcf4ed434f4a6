"""Points around the notes' curve: the requested number, different ones per split, the same ones each time."""

from __future__ import annotations

import numpy as np
import pytest

from components.data import curve
from components.data.curve import Curve


def points(data: Curve, split: str) -> tuple[np.ndarray, np.ndarray]:
    rows = [row for part in range(data.parts()[split]) for row in data.examples(split, part)]
    return np.array([row["x"] for row in rows]), np.array([row["y"] for row in rows])


def test_points_lie_around_the_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curve, "ROWS_PER_PART", 700)
    data = Curve(train=2000, test=30, noise=0.3, seed=1)
    x, y = points(data, "train")
    noise = y - (2 * np.sin(x.astype(float)) + x.astype(float) ** 0.8)
    assert len(x) == 2000
    assert len(np.unique(x)) > 1990, "parts don't repeat each other"
    assert noise.std() == pytest.approx(0.3, rel=0.05)
    assert abs(noise.mean()) < 0.03
    assert np.histogram(x, 5, (0, 5))[0] == pytest.approx(np.full(5, 400), abs=60)
    assert np.array_equal(x, points(data, "train")[0])
    assert not np.isin(points(data, "test")[0], x).any()
    assert not np.isin(points(Curve(test=30, seed=2), "test")[0], points(data, "test")[0]).any()


def test_without_noise_they_lie_on_it() -> None:
    x, y = points(Curve(noise=0.0), "test")
    assert len(x) == 500
    assert y == pytest.approx(2 * np.sin(x) + x**0.8, abs=1e-5)
