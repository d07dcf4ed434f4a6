"""Draw groups of points in the plane."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from . import figures


@figures.styled
def draw_points(groups: dict[str, np.ndarray], title: str) -> Figure:
    """Draw {name: points [N, 2]}, up to four groups, later ones above earlier ones, in one colour per group."""
    figure, axes = figures.new_figure(4.2, 4.2, title)
    colours = [figures.LINE, figures.BLUE, figures.ORANGE, figures.GREEN]
    for (name, points), colour in zip(groups.items(), colours, strict=False):
        axes.scatter(points[:, 0], points[:, 1], 6, colour, label=name, linewidths=0)
    axes.set_aspect("equal")
    figures.add_legend(figure, axes.get_legend_handles_labels()[0])
    return figure
