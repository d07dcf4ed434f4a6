"""Zipf's law: how often the commonest token occurs, and the next one, and so on (notes: language models)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from . import figures


@figures.styled
def draw_zipf(counts: Mapping[str, np.ndarray], title: str) -> Figure:
    """{name: how often each occurs [N], in any order}: frequency against rank, both on log scales."""
    figure, axes = figures.new_figure(4.6, 3.2, title)
    for (name, found), colour in zip(counts.items(), figures.SERIES, strict=False):
        falling = np.sort(found)[::-1]
        axes.plot(np.arange(1, len(falling) + 1), falling, color=colour, linewidth=2, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("rank")
    axes.set_ylabel("frequency")
    figures.add_legend(figure, axes.get_legend_handles_labels()[0])
    return figure
