"""Draw how token frequency falls with rank: Zipf's law (notes: language models)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from . import figures


@figures.styled
def draw_zipf(counts: Mapping[str, np.ndarray], title: str) -> Figure:
    """Draw {name: count of each token [N], in any order} as frequency against rank, both on log scales."""
    figure, axes = figures.new_figure(4.6, 3.2, title)
    for (name, frequencies), colour in zip(counts.items(), figures.SERIES, strict=False):
        falling = np.sort(frequencies)[::-1]
        axes.plot(np.arange(1, len(falling) + 1), falling, color=colour, linewidth=2, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("rank")
    axes.set_ylabel("frequency")
    figures.add_legend(figure, axes.get_legend_handles_labels()[0])
    return figure
