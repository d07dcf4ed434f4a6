"""Draw the figures of reports from plain arrays, and save them with the same bytes every time.

No pyplot and no global state. Every colour is one of PALETTE, so that a page can replace the light colours of a figure
by CSS variables, which follow the reader's light or dark screen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib import style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ..errors import Refusal

# Name: (light, dark). Colour-blind readers can tell the first two series (blue, orange) apart.
PALETTE = {
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
DASHES = ["-", "--", ":", "-."]  # of the first four series, the next four, ...
WIDE = 30  # ratio of values from which on an axis is logarithmic
SERIES = [BLUE, ORANGE, GREEN, VIOLET]
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
    # DejaVu Sans is shipped with matplotlib, so text has the same width on every machine.
    "font.sans-serif": ["DejaVu Sans"],
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
# A decorator that makes a function ignore the user's matplotlibrc.
styled = style.context(["default", STYLE])

LEGEND_CHARACTERS = 72  # that fit below a figure
MOST_NAME = 32  # characters of a class name on an axis
Curve = tuple[np.ndarray, np.ndarray]  # x [N], y [N]


@dataclass(frozen=True)
class Interval:
    """A mean, its confidence interval, and the values behind it (one per seed)."""

    value: float
    low: float
    high: float
    points: tuple[float, ...] = ()


@styled
def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write `figure` as .svg or .png, without a date or version in its metadata, and return the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    empty_metadata = {".svg": dict.fromkeys(("Date", "Creator", "Format", "Type")), ".png": {"Software": None}}
    if path.suffix not in empty_metadata:
        raise Refusal(f"{path}: is not a picture file that can be written; name it .svg or .png")
    figure.savefig(path, metadata=empty_metadata[path.suffix])
    return path


@styled
def draw_curves(groups: Mapping[str, Sequence[Curve]], title: str, x_label: str = "epoch", log: str = "") -> Figure:
    """Draw {group: runs} in one colour per group; `log` names the logarithmic axes: "x", "y" or "xy".

    Each run is a thin line. The thick line is the mean of a group's runs, at the x that all of them have.
    """
    figure, axes = new_figure(4.6, 2.9, title)
    # the axes' own list of lines lacks those whose names begin with "_"
    handles: list[Artist] = []
    for (name, runs), colour in zip(groups.items(), cycle_values(SERIES, len(groups)), strict=True):
        if len(runs) > 1:
            for x, y in runs:
                axes.plot(x, y, color=colour, alpha=0.3, linewidth=0.8)
        x, y = _mean_curve(runs)
        marker = "o" if len(x) < 12 else ""
        handles += axes.plot(x, y, color=colour, linewidth=2, label=plain(name), marker=marker, markersize=3.5)
    axes.set_xlabel(x_label)
    axes.grid(False, axis="x")
    axes.margins(x=0.02)
    if "y" in log:
        axes.set_yscale("log")
    if "x" in log:
        axes.set_xscale("log")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    if len(groups) > 1:
        add_legend(figure, handles)
    return figure


@styled
def draw_panels(panels: Mapping[str, Mapping[str, Curve]], title: str) -> Figure:
    """Draw {quantity: {name: curve over epochs}}, the quantities side by side; a name has one colour in all."""
    figure = Figure(figsize=(0.4 + 4.2 * len(panels), 2.9), layout="constrained")
    add_title(figure, title)
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    colours = dict(zip(names, cycle_values(SERIES, len(names)), strict=True))
    dashes = {name: DASHES[index // len(SERIES) % len(DASHES)] for index, name in enumerate(names)}
    handles: dict[str, object] = {}
    for axes, (quantity, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for name, (x, y) in curves.items():
            style = {"linestyle": dashes[name], "marker": "o" if len(x) < 12 else "", "markersize": 3.5}
            (handles[name],) = axes.plot(x, y, color=colours[name], linewidth=2, label=plain(name), **style)
        axes.set_title(quantity, loc="left", fontsize=9, fontweight="normal")
        axes.set_xlabel("epoch")
        axes.grid(False, axis="x")
        axes.margins(x=0.02)
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    if len(names) > 1:
        columns = 4 if max(map(len, names)) < 20 else 2
        figure.legend(handles=list(handles.values()), loc="outside lower left", ncols=columns, fontsize=8)
    return figure


@styled
def draw_confusion(counts: np.ndarray, classes: Sequence[str], title: str) -> Figure:
    """Draw counts int [K, K], truth in rows and prediction in columns; correct ones are blue, mistakes red.

    The strength of a colour follows the share of a cell in its row.
    """
    number = len(classes)
    names = [plain(shorten(name)) for name in classes]
    side = max(4.2, 0.36 * number)
    figure, axes = new_figure(side + 0.6, side + 0.5, title)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    cells = np.zeros((number, number, 4))
    for row, column in np.argwhere(counts > 0):
        if row == column:
            cells[row, column] = to_rgba(BLUE, 0.85 * share[row, column])
        else:  # rare mistakes must be visible
            cells[row, column] = to_rgba(RED, 0.85 * min(1.0, 0.12 + 2 * share[row, column] ** 0.5))
    for row, column in np.argwhere(counts > 0):
        axes.fill_between([column - 0.5, column + 0.5], row - 0.5, row + 0.5, color=cells[row, column], linewidth=0)
        ink = PAPER if cells[row, column, 3] > 0.5 else INK
        axes.text(column, row, f"{counts[row, column]}", color=ink, ha="center", va="center", fontsize=8)
    axes.set_xticks(range(number), names, rotation=90 if max(map(len, classes)) > 3 else 0)
    axes.set_yticks(range(number), names)
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
    """Draw pictures [H, W], [H, W, 1] or [H, W, 3], uint8 or floats in 0..1, each with its caption below it."""
    if len(pictures) != len(captions):
        raise Refusal(f"{len(pictures)} pictures with {len(captions)} captions: each picture needs one caption")
    columns = max(1, min(columns, len(pictures)))
    rows = max(1, -(-len(pictures) // columns))
    captions = [plain(fill(caption, 19)) for caption in captions]
    lines = max((caption.count("\n") + 1 for caption in captions), default=1)
    height = rows * (1.28 + 0.14 * lines) + (0.35 if title else 0)
    figure = Figure(figsize=(1.25 * columns, height), layout="constrained")
    if title:
        add_title(figure, title)
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.set_axis_off()
    for axes, picture, caption in zip(figure.axes, pictures, captions, strict=False):
        flat = picture[..., 0] if picture.ndim == 3 and picture.shape[-1] == 1 else picture
        top = 255 if flat.dtype == np.uint8 else 1
        axes.imshow(flat, cmap="gray", vmin=0, vmax=top, interpolation="none")
        axes.set_title(caption, y=-0.02, va="top", loc="center", fontsize=8, fontweight="normal", pad=0)
    return figure


@styled
def draw_intervals(
    rows: Mapping[str, Interval], title: str, x_label: str, percent: bool = True, connected: bool = True
) -> Figure:
    """Draw one row per interval: its mean and range, and the values of the seeds below them.

    connected: draw thin lines between the values of the same seed, for rows whose seeds have the same data.
    """
    figure, axes = new_figure(5.6, 0.9 + 0.62 * len(rows), title)
    heights = -np.arange(len(rows))
    points = [row.points for row in rows.values()]
    for seed_values in zip(*points, strict=False) if connected else ():
        axes.plot(seed_values, heights - 0.2, color=LINE, linewidth=1, zorder=1)
    for (name, row), y, colour in zip(rows.items(), heights, cycle_values(SERIES, len(rows)), strict=True):
        axes.plot([row.low, row.high], [y, y], color=colour, linewidth=7, alpha=0.3, solid_capstyle="butt")
        axes.plot(row.value, y, "o", color=colour, markersize=9, markeredgecolor=PAPER)
        axes.scatter(row.points, np.full(len(row.points), y - 0.2), 16, PAPER, edgecolors=colour, zorder=3)
        value = f"{row.value:.1%}" if percent else f"{row.value:.4g}"
        axes.annotate(f"{plain(name)}  {value}", (row.value, y), (0, 9), textcoords="offset points", ha="center")
    values = [row.value for row in rows.values()]
    if not percent and min(row.low for row in rows.values()) > 0 and max(values) > WIDE * min(values):
        axes.set_xscale("log")
        axes.margins(x=0.5)
    axes.set_yticks([])
    axes.set_ylim(-len(rows) + 0.55, 0.6)
    axes.spines["left"].set_visible(False)
    if axes.get_xscale() == "linear":
        axes.margins(x=0.12)
    if percent:
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    if axes.get_xscale() == "linear":
        axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.set_xlabel(x_label)
    return figure


@styled
def draw_bars(rows: Mapping[str, Mapping[str, float]], title: str, x_label: str) -> Figure:
    """Draw one stacked bar per row of {row: {part: length}}, from the top down, and write its sum behind it."""
    parts = list(dict.fromkeys(part for row in rows.values() for part in row))
    figure, axes = new_figure(5.6, 0.9 + 0.3 * len(rows), title)
    ends = np.zeros(len(rows))
    for part, alpha in zip(parts, np.geomspace(0.9, 0.2, len(parts)), strict=True):
        lengths = np.array([row.get(part, 0.0) for row in rows.values()])
        axes.barh(range(len(rows)), lengths, 0.62, ends, color=VIOLET, alpha=alpha, label=part)
        ends += lengths
    for y, total in enumerate(ends):
        axes.annotate(f"{total:,.0f}", (total, y), (5, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(rows)), list(map(plain, rows)), color=INK)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(x_label)
    axes.margins(x=0.1)
    if len(parts) > 1:
        add_legend(figure, axes.get_legend_handles_labels()[0])
    return figure


def new_figure(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    """Return an empty figure with a title, sized in inches, and its only axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    add_title(figure, title)
    return figure, figure.subplots()


def add_title(figure: Figure, title: str) -> None:
    """Write `title` above the figure, on the left."""
    figure.suptitle(plain(title), x=0.01, horizontalalignment="left", fontsize=11, fontweight="bold")


def add_legend(figure: Figure, handles: Sequence[object]) -> None:
    """Place a legend of `handles` below the axes, on the left; long labels get fewer columns."""
    longest = max((len(str(getattr(handle, "get_label", str)())) for handle in handles), default=0)
    columns = max(1, min(4, LEGEND_CHARACTERS // (longest + 9)))  # 9: the line before a label, and the space after it
    figure.legend(handles=handles, loc="outside lower left", ncols=columns, handletextpad=0.4, columnspacing=1.4)


def plain(text: str) -> str:
    """Return a text whose dollar signs are shown; otherwise matplotlib takes what is between two for a formula."""
    return text.replace("$", r"\$")


def shorten(name: str) -> str:
    """Return a class name with "…" for the middle of a long one, which would leave no room for what it names."""
    if len(name) <= MOST_NAME:
        return name
    half = MOST_NAME // 2
    return f"{name[:half].rstrip()}…{name[-half + 1 :].lstrip()}"


def cycle_values(values: Sequence[str], count: int) -> list[str]:
    """Return `count` values: `values` from the start, again from the start when they run out."""
    return [values[index % len(values)] for index in range(count)]


def _mean_curve(runs: Sequence[Curve]) -> Curve:
    """Return the mean of `runs` at the x that all of them have."""
    shared = sorted(set.intersection(*(set(x.tolist()) for x, _ in runs)))
    values = [dict(zip(x.tolist(), y.tolist(), strict=True)) for x, y in runs]
    return np.array(shared), np.array([np.mean([value[x] for value in values]) for x in shared])
