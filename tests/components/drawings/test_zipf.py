"""A Zipf plot shows every count once, in descending order, on log scales."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from components.drawings import figures
from components.drawings.zipf import draw_zipf


def test_frequency_falls_with_rank(tmp_path: Path) -> None:
    counts = {"unigrams": np.array([3, 100, 20]), "bigrams": np.array([1, 5, 2, 2])}
    figure = draw_zipf(counts, "Frequency against rank")
    axes = figure.axes[0]
    drawn = {line.get_label(): (line.get_xdata().tolist(), line.get_ydata().tolist()) for line in axes.lines}
    assert drawn == {"unigrams": ([1, 2, 3], [100, 20, 3]), "bigrams": ([1, 2, 3, 4], [5, 2, 2, 1])}
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert figures.save_figure(figure, tmp_path / "zipf.png").stat().st_size > 5000
