"""Windows of a series cut by time: held-out values come after the training values and share none with them."""

from __future__ import annotations

import numpy as np
import pytest

from components.data import sine
from components.data.sine import Sine
from components.errors import Refusal

SIZES = {"train": 50, "validation": 12, "test": 20}


def rows(data: Sine, split: str) -> list[dict]:
    return [row for part in range(data.parts()[split]) for row in data.examples(split, part)]


@pytest.mark.parametrize("tau", [1, 4, 7])
@pytest.mark.parametrize("part", [5, 8192])
def test_nothing_is_learned_from_the_future(tau: int, part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that all values of a split's rows lie in its own part of the series."""
    monkeypatch.setattr(sine, "ROWS_PER_PART", part)
    data = Sine(**SIZES, tau=tau)
    begin = 0
    for split, length in SIZES.items():
        examples = rows(data, split)
        times = np.array([row["time"] for row in examples])
        assert np.array_equal(times, np.arange(begin + tau, begin + length)), "each once, in order"
        assert times[0] - tau >= begin, f"a window of {split} reaches back across the border"
        for row in examples:
            assert np.array_equal(row["x"], data.series[row["time"] - tau : row["time"]])
            assert row["y"] == data.series[row["time"]]
        begin += length


def test_the_series_is_a_sine_and_noise() -> None:
    time = np.arange(sum(SIZES.values()))
    plain = Sine(**SIZES, period=25, noise=0.0).series
    assert np.allclose(plain, np.sin(2 * np.pi * time / 25), atol=1e-6)
    assert np.array_equal(Sine(**SIZES, seed=3).series, Sine(**SIZES, seed=3).series)
    assert not np.array_equal(Sine(**SIZES, seed=3).series, Sine(**SIZES, seed=4).series)
    long = {**SIZES, "train": 20_000}
    noise = Sine(**long, noise=0.5).series - Sine(**long, noise=0.0).series
    assert abs(noise.mean()) < 0.02
    assert noise.std() == pytest.approx(0.5, rel=0.03)


def test_a_part_too_short_for_a_window_is_refused() -> None:
    with pytest.raises(Refusal, match="test: 4 values are too few for a window of tau: 4"):
        Sine(train=50, validation=5, test=4, tau=4)
