"""Draw the scores of several systems against their costs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from . import figures
from .figures import Interval

# Places of a name: offset from its point (in typographic points) and horizontal alignment, in order of preference.
PLACES = (
    *((7.0, 4.0, "left"), (7.0, -12.0, "left"), (7.0, 16.0, "left")),
    *((-7.0, 4.0, "right"), (-7.0, -12.0, "right"), (-7.0, 16.0, "right")),
    *((7.0, -24.0, "left"), (-7.0, -24.0, "right")),
)


@figures.styled
def draw_costs(rows: Mapping[str, tuple[float, Interval]], title: str, x_label: str, y_label: str) -> Figure:
    """Draw {system: (cost above 0, score)}: each score with its interval and name, against cost on a log scale."""
    figure, axes = figures.new_figure(6.4, 4.0, title)
    for (name, (cost, score)), colour in zip(rows.items(), np.resize(figures.SERIES, len(rows)), strict=True):
        axes.plot([cost, cost], [score.low, score.high], color=colour, linewidth=5, alpha=0.3, solid_capstyle="butt")
        axes.plot(cost, score.value, "o", color=colour, markersize=7, markeredgecolor=figures.PAPER, label=name)
    axes.set_xscale("log")
    axes.margins(x=0.15, y=0.08)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    figure.draw_without_rendering()  # fixes where the points are on the canvas
    _write_names(axes, {name: (cost, score.value) for name, (cost, score) in rows.items()})
    return figure


def _write_names(axes: Axes, points: Mapping[str, tuple[float, float]]) -> None:
    """Write each name beside its point, at the first of PLACES where it overlaps no other name or point."""
    occupied = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in axes.transData.transform(list(points.values()))]
    for name, point in points.items():
        for x, y, side in PLACES:
            text = axes.annotate(name, point, (x, y), textcoords="offset points", ha=side, color=figures.INK)
            box = text.get_window_extent()
            if not any(box.overlaps(other) for other in occupied) or (x, y, side) == PLACES[-1]:
                occupied.append(box)
                break
            text.remove()
