"""Read SVG files as drawings that can do nothing but be seen: no script, no link, no file or address to load."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from ..errors import Refusal, first_line
from ..files import open_regular

NAMESPACE = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
MAX_BYTES = 64 << 20
ELEMENTS = (
    *("svg", "g", "defs", "style", "title", "desc", "path", "rect", "circle", "ellipse", "line", "polyline"),
    *("polygon", "text", "tspan", "use", "image", "clipPath", "mask", "linearGradient", "radialGradient", "stop"),
    *("marker", "pattern"),
)
REFERENCES = ("href", f"{{{XLINK}}}href")
# A reference to another part of the same drawing, or pixels inside it.
INNER = re.compile(r"#[\w.:-]+|data:image/png;base64,[A-Za-z0-9+/=\s]*")
# CSS that loads something, and the escapes with which it can be hidden.
LOADING_STYLE = re.compile(r"@|\\|expression|url\((?!#)|url\(#[^)]*[\"'<]", re.IGNORECASE)


def read_svg(path: Path) -> str:
    """Return the text of an SVG file, from `<svg`, with the elements and attributes that only draw.

    Raise Refusal if it is not an SVG drawing as matplotlib writes them, with a width and a height in points.
    """
    try:
        with open_regular(path) as file:
            content = file.read(MAX_BYTES + 1).decode()
        if len(content) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES >> 20} MB")
        # What stands before is not read: a document type could declare entities.
        root = ElementTree.fromstring(content[content.index("<svg") :])
        if root.tag != f"{{{NAMESPACE}}}svg" or not re.fullmatch(r"[\d.]+pt", root.get("width", "")):
            raise ValueError("no width in points")
        for element in list(root.iter()):
            _keep_drawing(element)
        ElementTree.register_namespace("", NAMESPACE)
        ElementTree.register_namespace("xlink", XLINK)
        return ElementTree.tostring(root, encoding="unicode")
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise Refusal(f"{path}: is not an SVG drawing ({first_line(error)}); write it again") from None


def _keep_drawing(element: ElementTree.Element) -> None:
    """Remove the attributes and the children of `element` that do more than draw."""
    for name, value in list(element.attrib.items()):
        is_event = name.lower().startswith("on")
        is_outer = name in REFERENCES and not INNER.fullmatch(value.strip())
        is_foreign = name.startswith("{") and name not in REFERENCES
        if is_event or is_outer or is_foreign or (name not in REFERENCES and LOADING_STYLE.search(value)):
            del element.attrib[name]
    for child in list(element):
        tag = str(child.tag).removeprefix(f"{{{NAMESPACE}}}")
        is_loading = tag == "style" and LOADING_STYLE.search(child.text or "")
        if tag not in ELEMENTS or is_loading:
            element.remove(child)
