"""Attention weights as a heat map: which key a query looks at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from . import figures


@figures.styled
def draw_kernel_weights(weights: np.ndarray, queries: np.ndarray, keys: np.ndarray, title: str) -> Figure:
    """weights [B, N] of queries [B] (rows) to keys [N] (columns), both ascending; the darkest is the greatest."""
    figure, axes = figures.new_figure(5.2, 4.2, title)
    colours = LinearSegmentedColormap.from_list("attention", [figures.PAPER, figures.BLUE, figures.INK])
    shown = axes.pcolormesh(weights, cmap=colours, vmin=0, rasterized=True)
    for axis, values in ((axes.xaxis, keys), (axes.yaxis, queries)):
        at = np.linspace(0, len(values) - 1, min(6, len(values))).astype(int)
        axis.set_ticks(at + 0.5, [f"{values[place]:.1f}" for place in at])
    axes.invert_yaxis()
    axes.grid(False)
    axes.set_xlabel("x of the keys: training examples")
    axes.set_ylabel("x of the queries")
    bar = figure.colorbar(shown, ax=axes, label="weight")
    bar.outline.set_visible(False)
    return figure


@figures.styled
def draw_token_attention(weights: np.ndarray, source: Sequence[str], said: Sequence[str], title: str) -> Figure:
    """weights [T, S], 0 to 1: how much each token of `said` [T] looked at each of `source` [S]."""
    figure, axes = figures.new_figure(1.6 + 0.34 * len(source), 1.6 + 0.26 * len(said), title)
    shades = LinearSegmentedColormap.from_list("shades", [figures.PAPER, figures.BLUE])
    axes.imshow(weights, cmap=shades, vmin=0, vmax=1, aspect="auto", interpolation="none")
    axes.set_xticks(range(len(source)), source, rotation=90)
    axes.set_yticks(range(len(said)), said)
    axes.xaxis.tick_top()
    axes.grid(False)
    axes.tick_params(length=0)
    return figure
