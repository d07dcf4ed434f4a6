"""Draw the trials of a search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from .figures import BLUE, INK, MUTED, PAPER, SERIES, add_legend, cycle_values, new_figure, styled

MARKERS = "osD^vP"


@dataclass(frozen=True)
class TrialPoint:
    """One trial: its group (colour), its searched value x, its score y, and its kind (marker), such as "batch 16"."""

    group: str
    x: float
    y: float
    kind: str = ""
    completed: bool = True  # False: stopped early
    best: bool = False


@styled
def draw_search(trials: Sequence[TrialPoint], title: str, x_label: str, y_label: str, log_x: bool = True) -> Figure:
    """Draw score against searched value; trials that stopped early are hollow, the best of each group is ringed."""
    figure, axes = new_figure(5.6, 3.6, title)
    groups = list(dict.fromkeys(trial.group for trial in trials))
    # By length first: "batch 8" comes before "batch 16".
    kinds = sorted({trial.kind for trial in trials}, key=lambda kind: (len(kind), kind))
    colours = dict(zip(groups, cycle_values(SERIES, len(groups)), strict=True))
    markers = dict(zip(kinds, cycle_values(list(MARKERS), len(kinds)), strict=True))
    for trial in trials:
        edge = colours[trial.group]
        marker = markers[trial.kind]
        face = edge if trial.completed else PAPER
        axes.scatter(trial.x, trial.y, 42, face, marker=marker, edgecolors=edge, linewidths=1.4, alpha=0.9)
        if trial.best:
            axes.scatter(trial.x, trial.y, 190, "none", marker="o", edgecolors=INK, linewidths=1.4)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.margins(0.08)
    if log_x:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    handles = [_legend_marker("o", colours[name], colours[name], name) for name in groups]
    handles += [_legend_marker(markers[kind], MUTED, MUTED, kind) for kind in kinds if kind]
    if not all(trial.completed for trial in trials):
        handles.append(_legend_marker("o", PAPER, MUTED, "stopped early"))
    if any(trial.best for trial in trials):
        handles.append(_legend_marker("o", PAPER, INK, "best", 10))
    add_legend(figure, handles)
    return figure


@styled
def draw_trials(trials: Sequence[tuple[Sequence[float], bool]], title: str, y_label: str) -> Figure:
    """Draw (score after each epoch, whether the trial ran to the end) for each trial; early stops end hollow."""
    figure, axes = new_figure(5.6, 3.6, title)
    for scores, completed in trials:
        colour = BLUE if completed else MUTED
        axes.plot(range(1, len(scores) + 1), scores, color=colour, alpha=0.9 if completed else 0.5, linewidth=1.4)
        face = colour if completed else PAPER
        axes.scatter(len(scores), scores[-1], 26, face, edgecolors=colour, linewidths=1.4, zorder=3)
    axes.set_xlabel("epoch")
    axes.set_ylabel(y_label)
    axes.xaxis.set_major_locator(MaxNLocator(9, steps=[1, 2, 5, 10], integer=True))
    handles = []
    if any(completed for _, completed in trials):
        handles.append(_legend_marker("o", BLUE, BLUE, "to the end"))
    if not all(completed for _, completed in trials):
        handles.append(_legend_marker("o", PAPER, MUTED, "stopped early"))
    add_legend(figure, handles)
    return figure


def _legend_marker(marker: str, face: str, edge: str, label: str, size: float = 6.5) -> Line2D:
    return Line2D([], [], linestyle="", marker=marker, color=face, markeredgecolor=edge, markersize=size, label=label)
