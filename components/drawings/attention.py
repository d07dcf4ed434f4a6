"""Draw attention weights as heat maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from . import figures


@figures.styled
def draw_kernel_weights(weights: np.ndarray, queries: np.ndarray, keys: np.ndarray, title: str) -> Figure:
    """Draw weights [B, N] of queries [B] (rows) on keys [N] (columns), both in ascending order; darker is greater."""
    figure, axes = figures.new_figure(5.2, 4.2, title)
    colours = LinearSegmentedColormap.from_list("attention", [figures.PAPER, figures.BLUE, figures.INK])
    mesh = axes.pcolormesh(weights, cmap=colours, vmin=0, rasterized=True)
    for axis, values in ((axes.xaxis, keys), (axes.yaxis, queries)):
        places = np.linspace(0, len(values) - 1, min(6, len(values))).astype(int)
        axis.set_ticks(places + 0.5, [f"{values[place]:.1f}" for place in places])
    axes.invert_yaxis()
    axes.grid(False)
    axes.set_xlabel("x of the keys: training examples")
    axes.set_ylabel("x of the queries")
    bar = figure.colorbar(mesh, ax=axes, label="weight")
    bar.outline.set_visible(False)
    return figure


@figures.styled
def draw_token_attention(weights: np.ndarray, source: Sequence[str], output: Sequence[str], title: str) -> Figure:
    """Draw weights [T, S] in 0..1 of each output token [T] (rows) on each source token [S] (columns)."""
    figure, axes = figures.new_figure(1.6 + 0.34 * len(source), 1.6 + 0.26 * len(output), title)
    colours = LinearSegmentedColormap.from_list("shades", [figures.PAPER, figures.BLUE])
    axes.imshow(weights, cmap=colours, vmin=0, vmax=1, aspect="auto", interpolation="none")
    axes.set_xticks(range(len(source)), list(map(figures.plain, source)), rotation=90)
    axes.set_yticks(range(len(output)), list(map(figures.plain, output)))
    axes.xaxis.tick_top()
    axes.grid(False)
    axes.tick_params(length=0)
    return figure
