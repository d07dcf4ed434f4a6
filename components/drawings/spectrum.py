"""Draw the estimates of extreme eigenvalues, and the loss along and between eigenvectors."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from . import figures


@figures.styled
def draw_eigenvalues(estimates: np.ndarray) -> Figure:
    """Draw estimates [M, 2] of the smallest and largest eigenvalue, one row per Hessian-vector product."""
    figure, axes = figures.new_figure(4.6, 2.9, "Extreme eigenvalues of the Hessian")
    steps = np.arange(1, len(estimates) + 1)
    axes.plot(steps, estimates[:, 1], color=figures.BLUE, linewidth=2, label=f"largest {estimates[-1, 1]:.3g}")
    axes.plot(steps, estimates[:, 0], color=figures.ORANGE, linewidth=2, label=f"smallest {estimates[-1, 0]:.3g}")
    axes.axhline(0, color=figures.MUTED, linewidth=0.8)
    axes.set_xlabel("products with the Hessian")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    figures.add_legend(figure, axes.get_legend_handles_labels()[0])
    return figure


@figures.styled
def draw_loss_section(distance: np.ndarray, loss: np.ndarray) -> Figure:
    """Draw loss [N] at signed distances [N] along the eigenvector of the smallest eigenvalue."""
    figure, axes = figures.new_figure(4.6, 2.9, "Loss along the smallest eigenvalue's vector")
    axes.plot(distance, loss, color=figures.BLUE, linewidth=2, marker="o", markersize=3.5)
    here = np.argmin(np.abs(distance))
    axes.plot(distance[here], loss[here], "o", color=figures.INK, markersize=7, label="the point")
    best = np.argmin(loss)
    axes.plot(distance[best], loss[best], "o", color=figures.GREEN, markersize=7, label="the lowest")
    axes.set_xlabel("distance")
    axes.set_ylabel("loss")
    figures.add_legend(figure, axes.get_legend_handles_labels()[0])
    return figure


@figures.styled
def draw_surface(loss: np.ndarray, distance: np.ndarray, largest: float, second: float) -> Figure:
    """Draw contours of loss [N, N] at signed distances [N] from the point, the same scale on both axes.

    The largest eigenvalue's vector points to the right, that of the next distinct one upwards. From line to line, the
    height above the lowest loss grows by the same factor.
    """
    figure, axes = figures.new_figure(4.4, 4.4, "Error surface around the point")
    height = loss - loss.min() + 1e-3 * np.ptp(loss)
    if np.ptp(height) > 0:
        levels = np.geomspace(height.min() * 2, height.max(), 12)
        axes.contour(distance, distance, height, levels, colors=figures.BLUE, linewidths=1)
    else:  # a flat surface has no lines
        axes.set(xlim=distance[[0, -1]], ylim=distance[[0, -1]])
    axes.plot(0, 0, "o", color=figures.INK, markersize=6)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(f"along the largest eigenvalue's vector ({largest:.3g})")
    axes.set_ylabel(f"along the next distinct one's ({second:.3g})")
    axes.set_aspect("equal")
    return figure
