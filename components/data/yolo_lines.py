"""Read the lines of YOLO's text files: `class x y width height`, or the corners of an outline."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

SLACK = 1e-3  # of the picture's side, by which rounding may move a box out of it
Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class Box:
    """A line of a text file: the class (-1: unknown), x1, y1, x2, y2 as shares of the sides, and its fault."""

    number: int = -1
    corners: Corners = (0.0, 0.0, 0.0, 0.0)
    fault: str = ""
    row: int = field(default=0, compare=False)


def read_box(row: int, words: list[str], keypoints: bool) -> Box:
    """Return the box of a line. keypoints: whether only the first four numbers are a box."""
    try:
        number, values = float(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        return Box(fault=f"'{' '.join(words)[:40]}' is not a class and numbers", row=row)
    if not (number.is_integer() and number >= 0):
        return Box(fault=f"class {words[0]} is not a whole number from 0", row=row)
    values = values[:4] if keypoints else values
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        fault = f"{len(words)} values are neither a class and a box (5) nor a class and an outline (7, 9, ...)"
        return Box(fault=fault, row=row)
    if not np.isfinite(values).all():
        return Box(fault="a value that is not a finite number", row=row)
    if len(values) == 4:
        x, y, width, height = values
        corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    else:
        corners = (min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2]))
    return Box(int(number), corners, _find_corner_fault(corners, float(np.abs(values).max())), row)


def _find_corner_fault(corners: Corners, largest: float) -> str:
    """Return what is wrong with a box, or "". largest: of its values in the file."""
    shown = ", ".join(f"{value:g}" for value in corners)
    if largest > 2:
        return f"the box {shown} is in pixels, not in shares of the picture from 0 to 1"
    if corners[2] <= corners[0] or corners[3] <= corners[1]:
        return f"the box {shown} has no area"
    if min(corners) < -SLACK or max(corners) > 1 + SLACK:
        return f"the box {shown} reaches beyond the picture, from 0 to 1"
    return ""
