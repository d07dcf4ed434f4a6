"""Render a report as one HTML file of text, tables and pictures, without scripts or links to other files.

Pictures are inlined: an SVG in the colours of figures.PALETTE follows the reader's light or dark screen, a PNG stays as
it is. The same blocks give the same bytes.
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
from ..safe_text import drop_controls
from .figures import PALETTE
from .svg import read_svg

TEMPLATE = Path(__file__).with_suffix(".html")


@dataclass(frozen=True)
class Text:
    """A paragraph. In every text of a page, `...` marks code. `quiet`: set in grey."""

    text: str
    quiet: bool = False
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Links:
    """A line of links, (title, address) each; an address that is not one of the web is shown as text."""

    targets: Sequence[tuple[str, str]]
    kind: ClassVar[str] = "links"


@dataclass(frozen=True)
class Missing:
    """The place of something that does not exist yet: its name, and the command that creates it."""

    name: str
    command: str
    kind: ClassVar[str] = "missing"


@dataclass(frozen=True)
class Picture:
    """A picture file (.svg or .png). `wide`: on a small screen it scrolls sideways instead of shrinking."""

    path: Path
    alt: str
    caption: str = ""
    wide: bool = False
    kind: ClassVar[str] = "picture"


@dataclass(frozen=True)
class Row:
    """Blocks that stand side by side where the screen is wide enough."""

    blocks: Sequence[Text | Missing | Picture | Table]
    kind: ClassVar[str] = "row"


@dataclass(frozen=True)
class Table:
    """A table. Cells are right-aligned numbers, except in the first column and in `text_columns`."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    text_columns: Sequence[int] = ()
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Folded:
    """A long text that is hidden until the reader clicks on its title."""

    title: str
    text: str
    kind: ClassVar[str] = "folded"


Block = Text | Links | Missing | Picture | Row | Table | Folded


@dataclass(frozen=True)
class Section:
    """A titled part of the page, with its entry in the table of contents."""

    title: str
    blocks: Sequence[Block]

    @property
    def anchor(self) -> str:
        """Return the id of the section's heading."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


def list_pictures(blocks: Iterable[Block]) -> list[Picture]:
    """Return the pictures among `blocks`, including those inside rows."""
    flat: list[Block] = []
    for block in blocks:
        flat += block.blocks if isinstance(block, Row) else [block]
    return [block for block in flat if isinstance(block, Picture)]


def render_page(
    title: str, sections: Sequence[Section], lead: str = "", opening: Sequence[Block] = (), footer: str = ""
) -> str:
    """Return the HTML of a page.

    From the top: `title`, `lead` (one sentence), the blocks of `opening`, the sections, and `footer`. The table of
    contents lists the sections.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    numbers = count(1)
    environment.filters["marked"] = _mark_up
    environment.filters["linked"] = _link
    environment.filters["inlined"] = lambda picture: Markup(_inline(picture, next(numbers)))
    variables = [" ".join(f"--{name}: {pair[side]};" for name, pair in PALETTE.items()) for side in (0, 1)]
    html = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=title,
        lead=lead,
        opening=opening,
        sections=sections,
        footer=footer,
        light=Markup(variables[0]),
        dark=Markup(variables[1]),
    )
    return drop_controls(html)


def _mark_up(text: str) -> Markup:
    """Escape `text`, then turn its code marks into HTML."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text)))


def _link(address: str, title: str) -> Markup:
    """Return a link, or the title and the address as text if it is not an address of the web."""
    if not re.fullmatch(r"https?://[^\s<>\"]+", address):
        return Markup(escape(f"{title}: {address}"))
    return Markup(f'<a href="{escape(address)}">{escape(title)}</a>')


def _inline(picture: Picture, number: int) -> str:
    """Return the HTML element of the picture that is number `number` on its page."""
    alt = escape(picture.alt)
    if picture.path.suffix == ".svg":
        return _adapt_svg(read_svg(picture.path), alt, f"p{number}-")
    if picture.path.suffix == ".png":
        content = base64.b64encode(picture.path.read_bytes()).decode()
        return f'<img alt="{alt}" src="data:image/png;base64,{content}">'
    raise Refusal(f"{picture.path}: is not a picture that a report can show; save it as .svg or .png")


def _adapt_svg(svg: str, alt: str, prefix: str) -> str:
    """Turn a drawing of `read_svg` into an element of a page.

    Its ids begin with `prefix`, its colours become variables of the page, and its width follows the place it gets.
    """
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}", svg)
    for name, (light, _) in PALETTE.items():
        svg = svg.replace(f": {light}", f": var(--{name})")
    width = float(re.search(r'width="([\d.]+)pt"', svg)[1]) * 4 / 3  # type: ignore[index]
    head = f'<svg role="img" aria-label="{alt}" style="max-width: {1.15 * width:.0f}px"'
    return re.sub(r'<svg (.*?)width="[\d.]+pt" height="[\d.]+pt"', lambda match: f"{head} {match[1]}", svg, count=1)
