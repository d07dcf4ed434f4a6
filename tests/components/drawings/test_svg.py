"""An SVG file can only draw on a page, whoever wrote it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from components.drawings import figures
from components.drawings.page import Picture, Section, render_page
from components.drawings.svg import read_svg
from components.errors import Refusal
from tests.components.drawings.test_figures import drawings

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="9pt" height="9pt">'
EVIL = "evil.example"
ATTACKS = {
    "a script": f"<script>fetch('//{EVIL}')</script>",
    "an event": f"<rect onclick=\"fetch('//{EVIL}')\"/>",
    "an event in capitals": f"<rect ONLOAD=\"fetch('//{EVIL}')\"/>",
    "HTML inside": f"<foreignObject><iframe xmlns='http://www.w3.org/1999/xhtml' src='//{EVIL}'/></foreignObject>",
    "a link": f"<a href='https://{EVIL}'><text>x</text></a>",
    "a script as a link": f"<a xlink:href='javascript:fetch(`//{EVIL}`)'><text>x</text></a>",
    "a picture elsewhere": f"<image xlink:href='https://{EVIL}/p.png'/>",
    "a drawing as a picture": f"<image href='data:image/svg+xml,{EVIL}'/>",
    "a drawing used from elsewhere": f"<use href='https://{EVIL}/x.svg#a'/>",
    "an animated link": f"<set attributeName='href' to='https://{EVIL}'/>",
    "an imported style": f"<style>@import '//{EVIL}';</style>",
    "an address in a style": f"<style>* {{ background: url(//{EVIL}) }}</style>",
    "an escaped address in a style": f"<rect style='background: \\75rl(//{EVIL})'/>",
    "an address in an attribute": f"<rect fill='url(https://{EVIL}/#a)'/>",
    "another namespace": f"<h:script xmlns:h='http://www.w3.org/1999/xhtml'>fetch('//{EVIL}')</h:script>",
    "a comment": f"<!-- {EVIL} -->",
    "an instruction": f"<?xml-stylesheet href='//{EVIL}'?>",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_does_more_than_draw_is_removed(attack: str, tmp_path: Path) -> None:
    file = tmp_path / "x.svg"
    file.write_text(f"{HEAD}<g>{ATTACKS[attack]}<path id='a' d='M 0 0'/></g></svg>")
    html = render_page("Title", [Section("One", [Picture(file, "alt")])])
    assert EVIL not in html
    assert re.search(r'<path id="p1-a" d="M 0 0" ?/>', html), "the rest of the drawing stays"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "no drawing",
        "<svg",
        f"{HEAD}<g></svg>",
        f"<!DOCTYPE svg [<!ENTITY a 'aaaa'>]>{HEAD}&a;</svg>",
        "<svg width='9pt' height='9pt'/>",
        HEAD.replace("9pt", "100%") + "</svg>",
        HEAD + "<g>" * 5000 + "</g>" * 5000 + "</svg>",
    ],
)
def test_what_is_no_drawing_is_refused_in_one_line(content: str, tmp_path: Path) -> None:
    file = tmp_path / "x.svg"
    file.write_text(content)
    with pytest.raises(Refusal, match=r"x\.svg: is not an SVG drawing \("):
        read_svg(file)


@pytest.mark.parametrize("name", sorted(drawings()))
def test_our_own_drawings_lose_nothing(name: str, tmp_path: Path) -> None:
    file = figures.save_figure(drawings()[name], tmp_path / "x.svg")
    before, after = file.read_text(), read_svg(file)
    for tag in ("path", "use", "text", "g", "clipPath", "image", "style"):
        assert len(re.findall(rf"<{tag}\b", before)) == len(re.findall(rf"<{tag}\b", after)), tag
    for attribute in ("style", "d", "transform", "clip-path", "xlink:href", "id"):
        pattern = rf'\b{attribute}="'
        body = before[before.index("<svg") :]
        assert len(re.findall(pattern, body)) == len(re.findall(pattern, after)), attribute
