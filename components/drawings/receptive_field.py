"""Draw the receptive fields of a network's layers, one inside the other."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from . import figures

Interval = tuple[int, int]  # first and last position, both included


@figures.styled
def draw_receptive_fields(fields: Mapping[str, tuple[Interval, Interval]], size: tuple[int, int]) -> Figure:
    """Draw {layer: (rows, columns)} that a central output of each layer sees, in a picture of `size` (H, W)."""
    figure, axes = figures.new_figure(4.4, 4.8, "Receptive field of a central output")
    colours = figures.cycle_values(figures.SERIES, len(fields))
    for index, ((name, (rows, columns)), colour) in enumerate(zip(fields.items(), colours, strict=True)):
        corner = (columns[0] - 0.5, rows[0] - 0.5)
        sides = (columns[1] - columns[0] + 1, rows[1] - rows[0] + 1)
        style = figures.DASHES[index // len(figures.SERIES) % len(figures.DASHES)]
        label = f"{name}: {sides[1]} x {sides[0]}"
        axes.add_patch(
            Rectangle(corner, *sides, fill=False, edgecolor=colour, linewidth=2, linestyle=style, label=label)
        )
    axes.set_xlim(-0.5, size[1] - 0.5)
    axes.set_ylim(size[0] - 0.5, -0.5)
    axes.set_aspect("equal")
    axes.set_xlabel("pixels")
    figure.legend(handles=axes.patches, loc="outside lower left", ncols=2, fontsize=8)
    return figure
