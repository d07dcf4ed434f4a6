"""Pictures and pages: what is drawn is what was given, the bytes are always the same, and nothing is fetched."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from components.drawings import figures
from components.drawings.figures import Interval, TrialPoint
from components.drawings.page import Folded, Missing, Picture, Row, Section, Table, Text, list_pictures, render_page
from components.errors import Refusal

EPOCHS = np.arange(1, 16)
RUNS = {
    "fine-tuned": [(EPOCHS, np.exp(-EPOCHS / (3 + seed))) for seed in range(3)],
    "from scratch": [(EPOCHS[:12], np.exp(-EPOCHS[:12] / 9)), (EPOCHS, np.exp(-EPOCHS / 8))],
}
TRIALS = [
    TrialPoint("fine-tuned", 0.02, 0.9, "batch 8"),
    TrialPoint("fine-tuned", 0.3, 0.7, "batch 16", whole=False),
    TrialPoint("from scratch", 0.1, 0.8, "batch 16", best=True),
]
COUNTS = np.array([[7, 0, 1], [0, 9, 0], [2, 0, 4]])
ARMS = {
    "fine-tuned": Interval(0.95, 0.94, 0.96, (0.945, 0.955)),
    "from scratch": Interval(0.9, 0.88, 0.92, (0.89, 0.91)),
}
SECONDS = {"prepare": {"workers": 3.0, "connect": 1.5}, "tune": {"workers": 60.0, "connect": 1.0, "else": 2.0}}
PICTURES = [np.full((4, 5, 1), 40 * n, np.uint8) for n in range(5)]


def drawings() -> dict[str, Figure]:
    return {
        "curves": figures.draw_curves(RUNS, "Loss"),
        "search": figures.draw_search(TRIALS, "Search", "learning rate", "accuracy"),
        "confusion": figures.draw_confusion(COUNTS, ["a", "b", "c"], "Confusion"),
        "grid": figures.draw_grid(PICTURES, list("vwxyz"), "Mistakes", columns=3),
        "trials": figures.draw_trials(
            [([0.5, 0.7, 0.8], True), ([0.3], False)], "Accuracy after each epoch", "accuracy"
        ),
        "intervals": figures.draw_intervals(ARMS, "Accuracy", "accuracy"),
        "bars": figures.draw_bars(SECONDS, "Time", "seconds"),
    }


def save_all(folder: Path) -> dict[str, str]:
    """SHA-256 of every drawing, as SVG and as PNG."""
    files = [figures.save_figure(d, folder / f"{n}{s}") for n, d in drawings().items() for s in (".svg", ".png")]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


# ------------------------------------------------------------------------------------------------ figures


def test_the_same_drawings_have_the_same_bytes_whatever_the_process_and_its_settings(tmp_path: Path) -> None:
    settings = tmp_path / "matplotlibrc"
    settings.write_text("axes.facecolor: yellow\nfont.size: 30\nlines.linewidth: 9\nsvg.fonttype: path\n")
    code = (
        f"import json, pathlib; from tests.components.drawings.test_page import save_all; "
        f"print(json.dumps(save_all(pathlib.Path({str(tmp_path / 'other')!r}))))"
    )
    environment = {"MATPLOTLIBRC": str(settings), "PYTHONHASHSEED": "7", "PATH": ""}
    other = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    assert save_all(tmp_path / "mine") == save_all(tmp_path / "again") == json.loads(other.stdout)
    assert len(list((tmp_path / "mine").iterdir())) == 14


@pytest.mark.parametrize("name", drawings())
def test_every_colour_is_of_the_palette(name: str, tmp_path: Path) -> None:
    """A page can turn only those dark."""
    text = figures.save_figure(drawings()[name], tmp_path / "drawing.svg").read_text()
    used = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", text))
    assert used
    assert used <= {light for light, _ in figures.PALETTE.values()}


def test_curves_draw_each_run_thin_and_the_mean_of_the_shared_epochs_bold() -> None:
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


def test_the_search_shows_score_stop_and_best() -> None:
    axes = figures.draw_search(TRIALS, "Search", "learning rate", "accuracy").axes[0]
    assert axes.get_xscale() == "log"
    points = [(*map(float, dots.get_offsets()[0]), dots.get_facecolor()) for dots in axes.collections]
    assert [(x, y) for x, y, _ in points] == [(0.02, 0.9), (0.3, 0.7), (0.1, 0.8), (0.1, 0.8)]  # the last is the ring
    assert to_hex(points[0][2][0]) == figures.BLUE
    assert to_hex(points[1][2][0]) == figures.PAPER
    assert to_hex(points[2][2][0]) == figures.ORANGE
    assert len(points[3][2]) == 0
    labels = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert labels == ["fine-tuned", "from scratch", "batch 8", "batch 16", "stopped early", "best"]


def test_the_confusion_matrix_writes_every_count_in_its_place() -> None:
    axes = figures.draw_confusion(COUNTS, ["a", "b", "c"], "Confusion").axes[0]
    written = {(int(t.get_position()[1]), int(t.get_position()[0])): int(t.get_text()) for t in axes.texts}
    assert written == {(row, column): COUNTS[row, column] for row, column in np.argwhere(COUNTS > 0)}
    top, bottom = axes.transData.transform([(0, 0), (0, 2)])[:, 1]
    assert top > bottom  # the first class is on top
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "b", "c"]


def test_the_grid_keeps_pixels_captions_and_order() -> None:
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
    assert max(map(len, long.splitlines())) < 20  # a caption is as wide as its picture
    assert long.split() == ["T-shirt/top", "→", "Ankle", "boot", "p=0.98"]
    assert not list(figures.draw_grid([], []).axes[0].images)
    with pytest.raises(Refusal, match="5 pictures with 1 captions"):
        figures.draw_grid(PICTURES, ["one"])


def test_intervals_and_bars_show_the_numbers_given() -> None:
    axes = figures.draw_intervals(ARMS, "Accuracy", "accuracy").axes[0]
    assert [text.get_text() for text in axes.texts] == ["fine-tuned  95.0%", "from scratch  90.0%"]
    spans = [list(line.get_xdata()) for line in axes.lines]
    assert [0.94, 0.96] in spans
    assert [0.88, 0.92] in spans
    assert [0.945, 0.89] in spans  # the first seed, from arm to arm
    assert [list(dots.get_offsets()[:, 0]) for dots in axes.collections] == [[0.945, 0.955], [0.89, 0.91]]
    axes = figures.draw_bars(SECONDS, "Time", "seconds").axes[0]
    assert [text.get_text() for text in axes.texts] == ["4", "63"]
    widths = {bars.get_label(): [bar.get_width() for bar in bars] for bars in axes.containers}
    assert widths == {"workers": [3, 60], "connect": [1.5, 1], "else": [0, 2]}


def test_other_kinds_of_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"\.svg or \.png"):
        figures.save_figure(drawings()["bars"], tmp_path / "bars.pdf")
    (tmp_path / "bars.pdf").touch()
    with pytest.raises(Refusal, match=r"\.svg and \.png"):
        render_page("Title", [Section("One", [Picture(tmp_path / "bars.pdf", "bars")])])


def test_drawing_needs_no_torch_no_mlflow_and_no_pyplot() -> None:
    code = (
        "import sys, components.drawings.page; "
        "assert not {'torch', 'mlflow', 'ray', 'matplotlib.pyplot', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ------------------------------------------------------------------------------------------------ pages


class Reader(HTMLParser):
    """Tags in order, with their attributes; checks that they are closed in order."""

    VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str, attribute: str) -> list[str]:
        return [given[attribute] or "" for name, given in self.tags if name == tag and attribute in given]


@pytest.fixture
def html(tmp_path: Path) -> str:
    curve = figures.save_figure(drawings()["curves"], tmp_path / "curves.svg")
    search = figures.save_figure(drawings()["search"], tmp_path / "search.svg")
    Image.fromarray(PICTURES[3][..., 0]).save(tmp_path / "preview.png")
    blocks = [
        Text("Run `trainyard ui` & look at [charts](http://127.0.0.1:5000/#/x?a=1&b=2)."),
        Row([Picture(curve, 'curves "quoted" <b>', "a caption"), Picture(search, "search", wide=True)]),
        Picture(tmp_path / "preview.png", "a preview"),
        Table(["", "count"], [["<i>one</i>", "1"], ["two", "2"]], caption="A table"),
        Missing("the search", "dvc repro tune"),
        Folded("params.yaml", "a: <1>\nb: 2"),
    ]
    sections = [Section("What & why", blocks), Section("Time", [])]
    return render_page(
        "Glyphs <to> digits", sections, lead="It works.", opening=[Picture(curve, "again")], footer="The end"
    )


def test_a_page_is_whole_and_fetches_nothing(html: str) -> None:
    reader = Reader(html)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in reader.tags}
    assert all(source.startswith("data:image/png;base64,") for source in reader.all("img", "src"))
    assert "@import" not in html
    assert set(re.findall(r"url\((.)", html)) == {"#"}
    outside = [href for href in reader.all("a", "href") if not href.startswith("#")]
    assert outside == ["http://127.0.0.1:5000/#/x?a=1&b=2"]
    ids = [given["id"] for _, given in reader.tags if "id" in given]
    assert len(ids) == len(set(ids)) > 100
    used = re.findall(r'(?:xlink:href="#|url\(#)([^")]+)', html)
    assert used
    assert set(used) <= set(ids)


def test_a_page_has_contents_and_escapes_what_it_is_given(html: str) -> None:
    reader = Reader(html)
    assert reader.all("h2", "id") == ["what-why", "time"]
    assert [href for href in reader.all("a", "href") if href[0] == "#"] == ["#what-why", "#time"]
    assert "<title>Glyphs &lt;to&gt; digits</title>" in html
    assert "<i>one" not in html
    assert "<code>trainyard ui</code> &amp; look" in html
    assert "Run <code>dvc repro tune</code>" in html
    assert 'aria-label="curves &quot;quoted&quot; &lt;b&gt;"' in html
    assert "<pre>a: &lt;1&gt;\nb: 2</pre>" in html
    assert 'name="viewport"' in html


def test_drawings_follow_light_and_dark_and_paper(html: str) -> None:
    drawings = "".join(re.findall(r"<svg.*?</svg>", html, re.DOTALL))
    assert not re.search(r"(fill|stroke): #", drawings)
    named = set(re.findall(r"var\(--(\w+)\)", drawings))
    assert named <= set(figures.PALETTE)
    light, dark = re.findall(r":root \{ (.*?) \}", html)
    for name, (day, night) in figures.PALETTE.items():
        assert f"--{name}: {day};" in light
        assert f"--{name}: {night};" in dark
    assert "@media screen and (prefers-color-scheme: dark)" in html  # so that paper stays white


def test_pictures_are_inlined_as_they_are(html: str, tmp_path: Path) -> None:
    (source,) = Reader(html).all("img", "src")
    assert base64.b64decode(source.split(",")[1]) == (tmp_path / "preview.png").read_bytes()
    assert html.count("<svg ") == 3
    text = Reader(html).text
    assert text.count("epoch") == 2  # the words of a drawing are text: to be found and read aloud


def test_pictures_are_found_in_rows_too() -> None:
    one, two = Picture(Path("one.svg"), "one"), Picture(Path("two.svg"), "two")
    assert list_pictures([Text("words"), Row([one, Table([], [])]), two]) == [one, two]
