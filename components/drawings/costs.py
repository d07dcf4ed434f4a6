"""What a score costs: systems side by side, score against operations."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from components import figures
from components.figures import Interval


@figures.styled
def costs(rows: Mapping[str, tuple[float, Interval]], title: str, x_label: str, y_label: str) -> Figure:
    """{system: (cost above 0, score)}: score and interval against cost, on a log scale, each with its name."""
    figure, axes = figures.blank(6.4, 4.0, title)
    for (name, (cost, score)), colour in zip(rows.items(), np.resize(figures.SERIES, len(rows)), strict=True):
        axes.plot([cost, cost], [score.low, score.high], color=colour, linewidth=5, alpha=0.3, solid_capstyle="butt")
        axes.plot(cost, score.value, "o", color=colour, markersize=7, markeredgecolor=figures.PAPER, label=name)
        axes.annotate(name, (cost, score.value), (7, 4), textcoords="offset points", color=figures.INK)
    axes.set_xscale("log")
    axes.margins(x=0.15, y=0.08)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return figure
