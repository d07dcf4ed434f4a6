"""The drawings of a report: plain arrays in, a matplotlib Figure out, saved with the same bytes each time.

No pyplot and no global state. Every colour is one of PALETTE, so that a page can exchange the light colours that stand
in a picture for variables of its own, and the picture follows the reader's light or dark screen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter, StrMethodFormatter

from ..errors import Refusal

PALETTE = {  # name: (light, dark); the first two series are told apart by every kind of eye
    "paper": ("#fffefe", "#14171d"),
    "ink": ("#1d2430", "#e6e9ef"),
    "muted": ("#667084", "#98a2b3"),
    "line": ("#d7dce4", "#363d4a"),
    "blue": ("#1f6feb", "#6ea8ff"),
    "orange": ("#d9651a", "#ffa15c"),
    "green": ("#1a8a5a", "#5fd19b"),
    "violet": ("#8250df", "#c297ff"),
    "red": ("#cf2f3f", "#ff7b83"),
}
PAPER, INK, MUTED, LINE, BLUE, ORANGE, GREEN, VIOLET, RED = (light for light, _ in PALETTE.values())
SERIES = [BLUE, ORANGE, GREEN, VIOLET]
MARKERS = "osD^vP"
STYLE = {
    "axes.edgecolor": LINE,
    "axes.facecolor": PAPER,
    "axes.grid": True,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.axisbelow": True,
    "figure.facecolor": PAPER,
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same widths on every machine
    "font.size": 9,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "legend.borderaxespad": 0.2,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.solid_capstyle": "round",
    "savefig.dpi": 160,
    "svg.fonttype": "none",
    "svg.hashsalt": "trainyard",
    "text.color": INK,
    "xtick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.color": LINE,
    "ytick.labelcolor": MUTED,
}
styled = style.context(["default", STYLE])  # as a decorator: what a user's matplotlibrc says does not matter

Curve = tuple[np.ndarray, np.ndarray]  # x [N], y [N]


@dataclass(frozen=True)
class Interval:
    """A mean, its interval, and the single values behind it (one a seed)."""

    value: float
    low: float
    high: float
    points: tuple[float, ...] = ()


@dataclass(frozen=True)
class TrialPoint:
    group: str
    x: float
    y: float
    kind: str = ""  # what the marker's shape says, such as "batch 16"
    whole: bool = True  # False: stopped early
    best: bool = False


@styled
def save_figure(figure: Figure, path: str | Path) -> Path:
    """Writes `figure` as .svg or .png; no date and no version in it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    nothing = {".svg": dict.fromkeys(("Date", "Creator", "Format", "Type")), ".png": {"Software": None}}
    if path.suffix not in nothing:
        raise Refusal(f"{path}: a picture is written as .svg or .png")
    figure.savefig(path, metadata=nothing[path.suffix])
    return path


@styled
def draw_curves(groups: Mapping[str, Sequence[Curve]], title: str, x_label: str = "epoch") -> Figure:
    """One colour a group: a thin line for each of its runs, and their mean where all of them have a value."""
    figure, axes = new_figure(4.6, 2.9, title)
    for (name, runs), colour in zip(groups.items(), _cycle(SERIES, len(groups)), strict=True):
        if len(runs) > 1:
            for x, y in runs:
                axes.plot(x, y, color=colour, alpha=0.3, linewidth=0.8)
        x, y = _mean(runs)
        axes.plot(x, y, color=colour, linewidth=2, label=name, marker="o" if len(x) < 12 else "", markersize=3.5)
    axes.set_xlabel(x_label)
    axes.grid(False, axis="x")
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    if len(groups) > 1:
        add_legend(figure, axes.get_legend_handles_labels()[0])
    return figure


@styled
def draw_search(trials: Sequence[TrialPoint], title: str, x_label: str, y_label: str, log_x: bool = True) -> Figure:
    """Score against one searched value; hollow: stopped early; ringed: the best of its group."""
    figure, axes = new_figure(5.6, 3.6, title)
    groups = list(dict.fromkeys(t.group for t in trials))
    kinds = sorted({t.kind for t in trials}, key=lambda kind: (len(kind), kind))  # batch 8 before batch 16
    colour = dict(zip(groups, _cycle(SERIES, len(groups)), strict=True))
    marker = dict(zip(kinds, _cycle(list(MARKERS), len(kinds)), strict=True))
    for t in trials:
        face = colour[t.group] if t.whole else PAPER
        axes.scatter(t.x, t.y, 42, face, marker=marker[t.kind], edgecolors=colour[t.group], linewidths=1.4, alpha=0.9)
        if t.best:
            axes.scatter(t.x, t.y, 190, "none", marker="o", edgecolors=INK, linewidths=1.4)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.margins(0.08)
    if log_x:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    keys = [_key("o", colour[name], colour[name], name) for name in groups]
    keys += [_key(marker[kind], MUTED, MUTED, kind) for kind in kinds if kind]
    keys += [_key("o", PAPER, MUTED, "stopped early")] if not all(t.whole for t in trials) else []
    keys += [_key("o", PAPER, INK, "best", 10)] if any(t.best for t in trials) else []
    add_legend(figure, keys)
    return figure


@styled
def draw_trials(tried: Sequence[tuple[Sequence[float], bool]], title: str, y_label: str) -> Figure:
    """Each trial's scores after its epochs, and whether it went all the way: hollow ends are of those that did not."""
    figure, axes = new_figure(5.6, 3.6, title)
    for scores, whole in tried:
        colour = BLUE if whole else MUTED
        axes.plot(range(1, len(scores) + 1), scores, color=colour, alpha=0.9 if whole else 0.5, linewidth=1.4)
        face = colour if whole else PAPER
        axes.scatter(len(scores), scores[-1], 26, face, edgecolors=colour, linewidths=1.4, zorder=3)
    axes.set_xlabel("epoch")
    axes.set_ylabel(y_label)
    axes.xaxis.set_major_locator(MaxNLocator(9, steps=[1, 2, 5, 10], integer=True))
    ends = [_key("o", BLUE, BLUE, "to the end"), _key("o", PAPER, MUTED, "stopped early")]
    add_legend(
        figure, [end for end, whole in zip(ends, (True, False), strict=True) if any(w == whole for _, w in tried)]
    )
    return figure


@styled
def draw_confusion(counts: np.ndarray, classes: Sequence[str], title: str) -> Figure:
    """counts [K, K]: rows are the truth, columns the prediction. Right answers in blue, mistakes in red."""
    number = len(classes)
    side = max(4.2, 0.36 * number)
    figure, axes = new_figure(side + 0.6, side + 0.5, title)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    cells = np.zeros((number, number, 4))
    for row, column in np.argwhere(counts > 0):
        strength = share[row, column] if row == column else min(1.0, 0.12 + 2 * share[row, column] ** 0.5)
        cells[row, column] = to_rgba(BLUE if row == column else RED, 0.85 * strength)
    for row, column in np.argwhere(counts > 0):
        axes.fill_between([column - 0.5, column + 0.5], row - 0.5, row + 0.5, color=cells[row, column], linewidth=0)
        ink = PAPER if cells[row, column, 3] > 0.5 else INK
        axes.text(column, row, f"{counts[row, column]}", color=ink, ha="center", va="center", fontsize=8)
    axes.set_xticks(range(number), classes, rotation=90 if max(map(len, classes)) > 3 else 0)
    axes.set_yticks(range(number), classes)
    axes.set_xlabel("predicted")
    axes.set_ylabel("truth")
    axes.set_xlim(-0.5, number - 0.5)
    axes.set_ylim(number - 0.5, -0.5)
    axes.set_aspect("equal")
    axes.grid(False)
    axes.tick_params(length=0)
    for edge in np.arange(-0.5, number):
        axes.axhline(edge, color=LINE, linewidth=0.5)
        axes.axvline(edge, color=LINE, linewidth=0.5)
    return figure


@styled
def draw_grid(pictures: Sequence[np.ndarray], captions: Sequence[str], title: str = "", columns: int = 6) -> Figure:
    """Pictures [H, W], [H, W, 1] or [H, W, 3], uint8 or 0..1, each with a line below it."""
    if len(pictures) != len(captions):
        raise Refusal(f"{len(pictures)} pictures with {len(captions)} captions: each needs one")
    columns = max(1, min(columns, len(pictures)))
    rows = max(1, -(-len(pictures) // columns))
    captions = [fill(caption, 19) for caption in captions]
    lines = max((caption.count("\n") + 1 for caption in captions), default=1)
    height = rows * (1.28 + 0.14 * lines) + (0.35 if title else 0)
    figure = Figure(figsize=(1.25 * columns, height), layout="constrained")
    if title:
        _entitle(figure, title)
    places = figure.subplots(rows, columns, squeeze=False).flat
    for axes in places:
        axes.set_axis_off()
    for axes, picture, caption in zip(figure.axes, pictures, captions, strict=False):
        flat = picture[..., 0] if picture.ndim == 3 and picture.shape[-1] == 1 else picture
        top = 255 if flat.dtype == np.uint8 else 1
        axes.imshow(flat, cmap="gray", vmin=0, vmax=top, interpolation="none")
        axes.set_title(caption, y=-0.02, va="top", loc="center", fontsize=8, fontweight="normal", pad=0)
    return figure


@styled
def draw_intervals(rows: Mapping[str, Interval], title: str, x_label: str, percent: bool = True) -> Figure:
    """A row each: mean and interval, the single values under them; the same seed is joined from row to row."""
    figure, axes = new_figure(5.6, 0.9 + 0.62 * len(rows), title)
    heights = -np.arange(len(rows))
    points = [row.points for row in rows.values()]
    for seed in range(min(map(len, points), default=0)):
        axes.plot([p[seed] for p in points], heights - 0.2, color=LINE, linewidth=1, zorder=1)
    for (name, row), y, colour in zip(rows.items(), heights, _cycle(SERIES, len(rows)), strict=True):
        axes.plot([row.low, row.high], [y, y], color=colour, linewidth=7, alpha=0.3, solid_capstyle="butt")
        axes.plot(row.value, y, "o", color=colour, markersize=9, markeredgecolor=PAPER)
        axes.scatter(row.points, np.full(len(row.points), y - 0.2), 16, PAPER, edgecolors=colour, zorder=3)
        value = f"{row.value:.1%}" if percent else f"{row.value:.4g}"
        axes.annotate(f"{name}  {value}", (row.value, y), (0, 9), textcoords="offset points", ha="center")
    axes.set_yticks([])
    axes.set_ylim(-len(rows) + 0.55, 0.6)
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.12)
    if percent:
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.set_xlabel(x_label)
    return figure


@styled
def draw_bars(rows: Mapping[str, Mapping[str, float]], title: str, x_label: str) -> Figure:
    """One stacked bar a row, {row: {part: length}}, from the top down, its sum behind it."""
    parts = list(dict.fromkeys(part for row in rows.values() for part in row))
    figure, axes = new_figure(5.6, 0.9 + 0.3 * len(rows), title)
    left = np.zeros(len(rows))
    for part, alpha in zip(parts, np.geomspace(0.9, 0.2, len(parts)), strict=True):
        lengths = np.array([row.get(part, 0.0) for row in rows.values()])
        axes.barh(range(len(rows)), lengths, 0.62, left, color=VIOLET, alpha=alpha, label=part)
        left += lengths
    for y, total in enumerate(left):
        axes.annotate(f"{total:,.0f}", (total, y), (5, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(rows)), list(rows), color=INK)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(x_label)
    axes.margins(x=0.1)
    if len(parts) > 1:
        add_legend(figure, axes.get_legend_handles_labels()[0])
    return figure


def new_figure(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    """An empty figure, inches wide and high."""
    figure = Figure(figsize=(width, height), layout="constrained")
    _entitle(figure, title)
    return figure, figure.subplots()


def _entitle(figure: Figure, title: str) -> None:
    figure.suptitle(title, x=0.01, horizontalalignment="left", fontsize=11, fontweight="bold")


def _mean(runs: Sequence[Curve]) -> Curve:
    """Over the x that every run has."""
    shared = sorted(set.intersection(*(set(x.tolist()) for x, _ in runs)))
    values = [dict(zip(x.tolist(), y.tolist(), strict=True)) for x, y in runs]
    return np.array(shared), np.array([np.mean([value[x] for value in values]) for x in shared])


def add_legend(figure: Figure, handles: Sequence[object]) -> None:
    figure.legend(handles=handles, loc="outside lower left", ncols=4, handletextpad=0.4, columnspacing=1.4)


def _key(marker: str, face: str, edge: str, label: str, size: float = 6.5) -> Line2D:
    return Line2D([], [], linestyle="", marker=marker, color=face, markeredgecolor=edge, markersize=size, label=label)


def _cycle(values: Sequence[str], count: int) -> list[str]:
    return [values[index % len(values)] for index in range(count)]
