"""Draw two numbers per row side by side, such as a score and that of chance."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from . import figures


@figures.styled
def draw_pairs(rows: Mapping[str, tuple[float, float]], parts: tuple[str, str], title: str, x_label: str) -> Figure:
    """Draw {row: (first, second)} as two bars per row, from the top down, and write the first number behind its bar.

    parts: names of the first and the second number. A first number that is NaN is written as a dash.
    """
    figure, axes = figures.new_figure(5.6, 1.1 + 0.36 * len(rows), title)
    rest = zip(parts, (-0.18, 0.18), (figures.VIOLET, figures.LINE), strict=True)
    for number, (part, shift, colour) in enumerate(rest):
        lengths = [np.nan_to_num(pair[number]) for pair in rows.values()]
        axes.barh(np.arange(len(rows)) + shift, lengths, 0.34, color=colour, label=part)
    for place, (first, _) in enumerate(rows.values()):
        text = "-" if math.isnan(first) else f"{first:.2f}"
        end = (float(np.nan_to_num(first)), place - 0.18)
        axes.annotate(text, end, (5, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(rows)), list(map(figures.plain, rows)), color=figures.INK)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(x_label)
    axes.margins(x=0.1)
    figures.add_legend(figure, axes.get_legend_handles_labels()[0])
    return figure
