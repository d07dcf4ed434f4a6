"""A report as one HTML file: text, tables and pictures, with nothing to fetch and no script.

Pictures are inlined: an SVG follows the reader's light or dark screen (its colours are those of figures.PALETTE), a PNG
is shown as it is. The same blocks give the same bytes.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import count
from pathlib import Path
from typing import ClassVar

import jinja2
from markupsafe import Markup

from ..errors import Refusal
from .figures import PALETTE

TEMPLATE = Path(__file__).with_suffix(".html")


@dataclass(frozen=True)
class Text:
    """A paragraph. Here and in every other text `...` marks code, and [...](http...) a link."""

    text: str
    quiet: bool = False
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Missing:
    """What can't be shown yet, and the command that makes it."""

    what: str
    command: str
    kind: ClassVar[str] = "missing"


@dataclass(frozen=True)
class Picture:
    """A picture file (.svg or .png); `wide`: scrolls sideways on a phone instead of shrinking."""

    path: Path
    alt: str
    caption: str = ""
    wide: bool = False
    kind: ClassVar[str] = "picture"


@dataclass(frozen=True)
class Row:
    """Blocks side by side where there is room."""

    blocks: Sequence[Text | Missing | Picture | Table]
    kind: ClassVar[str] = "row"


@dataclass(frozen=True)
class Table:
    """Cells are set as numbers, to the right, but for the first column and the columns `words`."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    words: Sequence[int] = ()
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Folded:
    """A long text that opens on a click."""

    title: str
    text: str
    kind: ClassVar[str] = "folded"


Block = Text | Missing | Picture | Row | Table | Folded


@dataclass(frozen=True)
class Section:
    title: str
    blocks: Sequence[Block]

    @property
    def anchor(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


def list_pictures(blocks: Iterable[Block]) -> list[Picture]:
    """All pictures among `blocks`, those in rows too."""
    inner = [part for block in blocks for part in (block.blocks if isinstance(block, Row) else [block])]
    return [part for part in inner if isinstance(part, Picture)]


def render_page(
    title: str, sections: Sequence[Section], lead: str = "", opening: Sequence[Block] = (), footer: str = ""
) -> str:
    """The HTML: `lead` is its one sentence, `opening` stands above the sections, which have a table of contents."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    numbers = count(1)
    environment.filters["marked"] = _marked
    environment.filters["inlined"] = lambda picture: Markup(_inlined(picture, next(numbers)))
    variables = [" ".join(f"--{name}: {pair[side]};" for name, pair in PALETTE.items()) for side in (0, 1)]
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=title,
        lead=lead,
        opening=opening,
        sections=sections,
        footer=footer,
        light=Markup(variables[0]),
        dark=Markup(variables[1]),
    )


def _marked(text: str) -> Markup:
    """Escaped, with `code` and links."""
    html = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    return Markup(re.sub(r"\[([^\]]+)\]\((https?://[^\s)]+)\)", r'<a href="\2">\1</a>', html))


def _inlined(picture: Picture, number: int) -> str:
    alt = escape(picture.alt)
    if picture.path.suffix == ".svg":
        return _themed(picture.path.read_text(encoding="utf-8"), alt, f"p{number}-")
    if picture.path.suffix == ".png":
        content = base64.b64encode(picture.path.read_bytes()).decode()
        return f'<img alt="{alt}" src="data:image/png;base64,{content}">'
    raise Refusal(f"{picture.path}: a report shows .svg and .png pictures")


def _themed(svg: str, alt: str, prefix: str) -> str:
    """A matplotlib drawing as part of a page: ids of its own, colours by the page's variables, width by its place."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}", svg)
    for name, (light, _) in PALETTE.items():
        svg = svg.replace(f": {light}", f": var(--{name})")
    width = float(re.search(r'width="([\d.]+)pt"', svg)[1]) * 4 / 3  # type: ignore[index]
    head = f'<svg role="img" aria-label="{alt}" style="max-width: {1.15 * width:.0f}px"'
    return re.sub(r'<svg (.*?)width="[\d.]+pt" height="[\d.]+pt"', lambda found: f"{head} {found[1]}", svg, count=1)
