"""A page is one valid HTML file that needs no other file, and shows what its blocks contain."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from components.drawings import figures
from components.drawings.page import (
    Folded,
    Links,
    Missing,
    Picture,
    Row,
    Section,
    Table,
    Text,
    list_pictures,
    render_page,
)
from components.errors import Refusal
from tests.components.drawings.test_figures import PICTURES, drawings


class Reader(HTMLParser):
    """Collect tags, their attributes and the text; check that tags are closed in order."""

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
        return [
            attributes[attribute] or "" for name, attributes in self.tags if name == tag and attribute in attributes
        ]


@pytest.fixture
def html(tmp_path: Path) -> str:
    curve = figures.save_figure(drawings()["curves"], tmp_path / "curves.svg")
    search = figures.save_figure(drawings()["search"], tmp_path / "search.svg")
    Image.fromarray(PICTURES[3][..., 0]).save(tmp_path / "preview.png")
    blocks = [
        Text("Run `trainyard ui` & look at [charts](http://evil.example)."),
        Links([("charts", "http://127.0.0.1:5000/#/x?a=1&b=2"), ("](http://evil.example) <b>", "javascript:alert(1)")]),
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


def test_a_page_is_complete_and_loads_nothing(html: str) -> None:
    reader = Reader(html)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in reader.tags}
    assert all(source.startswith("data:image/png;base64,") for source in reader.all("img", "src"))
    assert "@import" not in html
    assert set(re.findall(r"url\((.)", html)) == {"#"}
    outside = [href for href in reader.all("a", "href") if not href.startswith("#")]
    assert outside == ["http://127.0.0.1:5000/#/x?a=1&b=2"]
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) > 100
    used = re.findall(r'(?:xlink:href="#|url\(#)([^")]+)', html)
    assert used
    assert set(used) <= set(ids)


def test_a_page_may_load_and_run_nothing(html: str) -> None:
    """Its policy comes before everything that it restricts; only styles and pixels in the page itself are allowed."""
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)">', html)
    assert policy
    assert policy.start() < html.index("<title>") < html.index("<style>")
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].split(";"))
    assert rules["default-src"] == "'none'"
    assert rules.keys() == {"default-src", "style-src", "img-src", "base-uri", "form-action"}
    assert rules["img-src"] == "data:"


def test_control_characters_are_not_on_a_page() -> None:
    html = render_page("a\x1b[2J\u202eb", [Section("One", [Text("c\x07d")])])
    assert "a?[2J?b" in html
    assert "c?d" in html


def test_a_page_has_a_table_of_contents_and_escapes_text(html: str) -> None:
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


def test_drawings_follow_light_and_dark_screens_and_print(html: str) -> None:
    drawings = "".join(re.findall(r"<svg.*?</svg>", html, re.DOTALL))
    assert not re.search(r"(fill|stroke): #", drawings)
    named = set(re.findall(r"var\(--(\w+)\)", drawings))
    assert named <= set(figures.PALETTE)
    light, dark = re.findall(r":root \{ (.*?) \}", html)
    for name, (day, night) in figures.PALETTE.items():
        assert f"--{name}: {day};" in light
        assert f"--{name}: {night};" in dark
    assert "@media screen and (prefers-color-scheme: dark)" in html  # print stays light


def test_pictures_are_inlined_unchanged(html: str, tmp_path: Path) -> None:
    (source,) = Reader(html).all("img", "src")
    assert base64.b64decode(source.split(",")[1]) == (tmp_path / "preview.png").read_bytes()
    assert html.count("<svg ") == 3
    text = Reader(html).text
    assert text.count("epoch") == 2  # text in a drawing stays text, for search and screen readers


def test_pictures_in_rows_are_listed() -> None:
    first, second = Picture(Path("first.svg"), "first"), Picture(Path("second.svg"), "second")
    assert list_pictures([Text("words"), Row([first, Table([], [])]), second]) == [first, second]


def test_other_kinds_of_pictures_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bars.pdf").touch()
    with pytest.raises(Refusal, match=r"save it as \.svg or \.png"):
        render_page("Title", [Section("One", [Picture(tmp_path / "bars.pdf", "bars")])])


def test_a_page_imports_no_torch_mlflow_or_pyplot() -> None:
    code = (
        "import sys, components.drawings.page; "
        "assert not {'torch', 'mlflow', 'ray', 'matplotlib.pyplot', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
