"""Figures show the data they get, in colours of the palette, and are saved with the same bytes every time."""

from __future__ import annotations

import hashlib
import html
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from components.drawings import figures
from components.drawings.attention import draw_token_attention
from components.drawings.boxes import Boxes, draw_detections
from components.drawings.figures import Interval
from components.drawings.masks import draw_masks
from components.drawings.pairs import draw_pairs
from components.drawings.search import TrialPoint, draw_search, draw_trials
from components.drawings.spectrum import draw_surface
from components.errors import Refusal

EPOCHS = np.arange(1, 16)
RUNS = {
    "fine-tuned": [(EPOCHS, np.exp(-EPOCHS / (3 + seed))) for seed in range(3)],
    "from scratch": [(EPOCHS[:12], np.exp(-EPOCHS[:12] / 9)), (EPOCHS, np.exp(-EPOCHS / 8))],
}
TRIALS = [
    TrialPoint("fine-tuned", 0.02, 0.9, "batch 8"),
    TrialPoint("fine-tuned", 0.3, 0.7, "batch 16", completed=False),
    TrialPoint("from scratch", 0.1, 0.8, "batch 16", best=True),
]
COUNTS = np.array([[7, 0, 1], [0, 9, 0], [2, 0, 4]])
ARMS = {
    "fine-tuned": Interval(0.95, 0.94, 0.96, (0.945, 0.955)),
    "from scratch": Interval(0.9, 0.88, 0.92, (0.89, 0.91)),
}
SECONDS = {"prepare": {"workers": 3.0, "connect": 1.5}, "tune": {"workers": 60.0, "connect": 1.0, "else": 2.0}}
BOX = Boxes(np.array([[1.0, 1, 3, 3]]))
PICTURES = [np.full((4, 5, 1), 40 * n, np.uint8) for n in range(5)]


def drawings() -> dict[str, Figure]:
    return {
        "curves": figures.draw_curves(RUNS, "Loss"),
        "search": draw_search(TRIALS, "Search", "learning rate", "accuracy"),
        "confusion": figures.draw_confusion(COUNTS, ["a", "b", "c"], "Confusion"),
        "grid": figures.draw_grid(PICTURES, list("vwxyz"), "Mistakes", columns=3),
        "trials": draw_trials([([0.5, 0.7, 0.8], True), ([0.3], False)], "Accuracy after each epoch", "accuracy"),
        "intervals": figures.draw_intervals(ARMS, "Accuracy", "accuracy"),
        "bars": figures.draw_bars(SECONDS, "Time", "seconds"),
    }


def save_all(folder: Path) -> dict[str, str]:
    """Save every drawing as SVG and as PNG; return {file name: SHA-256}."""
    digests = {}
    for name, figure in drawings().items():
        for suffix in (".svg", ".png"):
            file = figures.save_figure(figure, folder / f"{name}{suffix}")
            digests[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return digests


def test_bytes_do_not_depend_on_the_process_or_its_settings(tmp_path: Path) -> None:
    settings = tmp_path / "matplotlibrc"
    settings.write_text("axes.facecolor: yellow\nfont.size: 30\nlines.linewidth: 9\nsvg.fonttype: path\n")
    code = (
        f"import json, pathlib; from tests.components.drawings.test_figures import save_all; "
        f"print(json.dumps(save_all(pathlib.Path({str(tmp_path / 'other')!r}))))"
    )
    environment = {"MATPLOTLIBRC": str(settings), "PYTHONHASHSEED": "7", "PATH": ""}
    other = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    assert save_all(tmp_path / "mine") == save_all(tmp_path / "again") == json.loads(other.stdout)
    assert len(list((tmp_path / "mine").iterdir())) == 14


@pytest.mark.parametrize("name", drawings())
def test_every_colour_is_in_the_palette(name: str, tmp_path: Path) -> None:
    """A page can replace only those by dark ones."""
    text = figures.save_figure(drawings()[name], tmp_path / "drawing.svg").read_text()
    used = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", text))
    assert used
    assert used <= {light for light, _ in figures.PALETTE.values()}


def test_curves_show_runs_thin_and_their_mean_over_shared_epochs_bold() -> None:
    axes = figures.draw_curves(RUNS, "Loss").axes[0]
    thin = [line for line in axes.lines if line.get_linewidth() < 1]
    bold = {line.get_label(): line for line in axes.lines if line.get_linewidth() > 1}
    assert len(thin) == 5
    tuned = bold["fine-tuned"]
    np.testing.assert_allclose(tuned.get_ydata(), np.mean([y for _, y in RUNS["fine-tuned"]], axis=0))
    scratch = bold["from scratch"]
    np.testing.assert_array_equal(scratch.get_xdata(), EPOCHS[:12])
    np.testing.assert_allclose(scratch.get_ydata(), (np.exp(-EPOCHS[:12] / 9) + np.exp(-EPOCHS[:12] / 8)) / 2)
    assert {to_hex(line.get_color()) for line in thin} == {tuned.get_color(), scratch.get_color()}
    assert tuned.get_color() != scratch.get_color()


def test_search_shows_scores_early_stops_and_the_best() -> None:
    axes = draw_search(TRIALS, "Search", "learning rate", "accuracy").axes[0]
    assert axes.get_xscale() == "log"
    points = [(*map(float, dots.get_offsets()[0]), dots.get_facecolor()) for dots in axes.collections]
    assert [(x, y) for x, y, _ in points] == [(0.02, 0.9), (0.3, 0.7), (0.1, 0.8), (0.1, 0.8)]  # the last is the ring
    assert to_hex(points[0][2][0]) == figures.BLUE
    assert to_hex(points[1][2][0]) == figures.PAPER
    assert to_hex(points[2][2][0]) == figures.ORANGE
    assert len(points[3][2]) == 0
    labels = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert labels == ["fine-tuned", "from scratch", "batch 8", "batch 16", "stopped early", "best"]


def test_confusion_writes_every_count_in_its_cell() -> None:
    axes = figures.draw_confusion(COUNTS, ["a", "b", "c"], "Confusion").axes[0]
    written = {(int(t.get_position()[1]), int(t.get_position()[0])): int(t.get_text()) for t in axes.texts}
    assert written == {(row, column): COUNTS[row, column] for row, column in np.argwhere(COUNTS > 0)}
    top, bottom = axes.transData.transform([(0, 0), (0, 2)])[:, 1]
    assert top > bottom  # the first class is on top
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "b", "c"]


def test_long_class_names_leave_room_for_the_counts() -> None:
    classes = [f"a name that goes on {'and on ' * 12}{end}" for end in ("spam", "ham")]
    figure = figures.draw_confusion(np.array([[3, 1], [2, 4]]), classes, "Confusion")
    figure.draw_without_rendering()
    (axes,) = figure.axes
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    assert names == ["a name that goes…on and on spam", "a name that goes…d on and on ham"]
    assert axes.get_window_extent().width > 0.3 * figure.bbox.width


def test_a_curve_whose_name_begins_with_an_underscore_is_in_the_legend() -> None:
    curve = (np.arange(3.0), np.arange(3.0))
    legend = figures.draw_curves({"_cat": [curve], "dog": [curve, curve]}, "Loss").legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["_cat", "dog"]


def test_grid_keeps_pixels_captions_and_order() -> None:
    figure = figures.draw_grid(PICTURES, list("vwxyz"), columns=3)
    shown = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in shown] == list("vwxyz")
    for axes, picture in zip(shown, PICTURES, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), picture[..., 0])
        assert axes.images[0].get_clim() == (0, 255)
    assert len(figure.axes) == 6
    colour = figures.draw_grid([np.zeros((4, 4, 3), np.uint8)], ["c"])
    assert colour.axes[0].images[0].get_array().shape == (4, 4, 3)
    long = figures.draw_grid(PICTURES[:1], ["T-shirt/top → Ankle boot  p=0.98"]).axes[0].get_title()
    assert max(map(len, long.splitlines())) < 20  # a caption is no wider than its picture
    assert long.split() == ["T-shirt/top", "→", "Ankle", "boot", "p=0.98"]
    assert not list(figures.draw_grid([], []).axes[0].images)
    with pytest.raises(Refusal, match="5 pictures with 1 captions"):
        figures.draw_grid(PICTURES, ["one"])


def test_intervals_and_bars_show_their_numbers() -> None:
    axes = figures.draw_intervals(ARMS, "Accuracy", "accuracy").axes[0]
    assert [text.get_text() for text in axes.texts] == ["fine-tuned  95.0%", "from scratch  90.0%"]
    spans = [list(line.get_xdata()) for line in axes.lines]
    assert [0.94, 0.96] in spans
    assert [0.88, 0.92] in spans
    assert [0.945, 0.89] in spans  # the first seed, from arm to arm
    apart = figures.draw_intervals(ARMS, "Tasks", "score", connected=False).axes[0]
    assert len(apart.lines) == len(axes.lines) - 2
    assert [list(dots.get_offsets()[:, 0]) for dots in axes.collections] == [[0.945, 0.955], [0.89, 0.91]]
    axes = figures.draw_bars(SECONDS, "Time", "seconds").axes[0]
    assert [text.get_text() for text in axes.texts] == ["4", "63"]
    widths = {bars.get_label(): [bar.get_width() for bar in bars] for bars in axes.containers}
    assert widths == {"workers": [3, 60], "connect": [1.5, 1], "else": [0, 2]}


def test_a_flat_surface_has_no_lines(tmp_path: Path) -> None:
    distance = np.linspace(-2, 2, 5)
    figure = draw_surface(np.full((5, 5), 0.7), distance, 0.0, 0.0)
    assert figure.axes[0].get_xlim() == (-2, 2)
    assert figures.save_figure(figure, tmp_path / "flat.png").is_file()
    bowl = draw_surface(distance**2 + distance[:, None] ** 2, distance, 2.0, 2.0)
    (lines,) = bowl.axes[0].collections
    assert len(lines.get_paths()) == 12


FORMULA = "$5_ to $6"  # matplotlib would take it for a formula, a wrong one


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.draw_confusion(COUNTS, [FORMULA, "b", "c"], FORMULA),
        lambda: figures.draw_curves({FORMULA: RUNS["fine-tuned"], "b": RUNS["from scratch"]}, "Loss"),
        lambda: figures.draw_panels({"loss": {FORMULA: (EPOCHS, EPOCHS), "b": (EPOCHS, EPOCHS)}}, "Loss"),
        lambda: figures.draw_grid(PICTURES[:1], [FORMULA]),
        lambda: figures.draw_intervals({FORMULA: ARMS["fine-tuned"]}, "Accuracy", "accuracy"),
        lambda: figures.draw_bars({FORMULA: {"seconds": 1.0}}, "Time", "seconds"),
        lambda: draw_pairs({FORMULA: (0.5, 0.5)}, ("a", "b"), "Score", "score"),
        lambda: draw_token_attention(np.eye(2), [FORMULA, "b"], ["c", FORMULA], "Where it looks"),
        lambda: draw_masks([PICTURES[0]], [PICTURES[0][..., 0]], [PICTURES[0][..., 0]], ["ground", FORMULA], "Masks"),
        lambda: draw_detections(
            PICTURES[:1], [BOX], [Boxes(BOX.boxes, [FORMULA], [figures.BLUE])], "Boxes", names={FORMULA: figures.BLUE}
        ),
    ],
)
def test_a_name_with_dollar_signs_is_shown_as_it_is(draw: Callable[[], Figure], tmp_path: Path) -> None:
    text = html.unescape(figures.save_figure(draw(), tmp_path / "drawing.svg").read_text())
    assert FORMULA in text


def test_other_kinds_of_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"name it \.svg or \.png"):
        figures.save_figure(drawings()["bars"], tmp_path / "bars.pdf")
