"""Draw predicted numbers beside true ones."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from . import figures


@figures.styled
def draw_predicted_against_true(predicted: np.ndarray, truth: np.ndarray, title: str) -> Figure:
    """Draw one point per example, prediction [N] against truth [N], and the diagonal of correct predictions."""
    figure, axes = figures.new_figure(4.2, 4.2, title)
    ends = [min(truth.min(), predicted.min()), max(truth.max(), predicted.max())]
    axes.plot(ends, ends, color=figures.MUTED, linewidth=1)
    axes.scatter(truth, predicted, 8, figures.BLUE, alpha=0.6, linewidths=0)
    axes.set_xlabel("truth")
    axes.set_ylabel("predicted")
    axes.set_aspect("equal")
    return figure


@figures.styled
def draw_curve_fit(x: np.ndarray, truth: np.ndarray, predicted: np.ndarray, title: str) -> Figure:
    """Draw truth [N] as points over x [N], and predictions [N] as a line; the examples may be in any order."""
    figure, axes = figures.new_figure(5.6, 3.6, title)
    order = np.argsort(x, kind="stable")
    axes.scatter(x, truth, 10, figures.MUTED, alpha=0.6, label="truth", linewidths=0)
    axes.plot(x[order], predicted[order], color=figures.BLUE, linewidth=2, label="predicted")
    axes.set_xlabel("x")
    axes.set_ylabel("y")
    figures.add_legend(figure, axes.get_legend_handles_labels()[0])
    return figure
