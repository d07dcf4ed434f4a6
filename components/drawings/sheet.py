"""A sheet of examples: pictures with captions, or lines of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from . import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINE_HEIGHT = 0.3  # inches
CAPTION = 18  # most characters under a picture


def draw_sheet(pictures: Sequence[np.ndarray | None], captions: Sequence[str], title: str) -> Figure:
    """Draw pictures uint8 [H, W, 3] of any sizes with captions; without pictures, the captions as lines of text."""
    if any(picture is not None for picture in pictures):
        shown = [(picture, caption) for picture, caption in zip(pictures, captions, strict=True) if picture is not None]
        side = max(max(picture.shape[:2]) for picture, _ in shown)
        squares = [_centre(picture, side) for picture, _ in shown]
        return figures.draw_grid(squares, [caption[:CAPTION] for _, caption in shown], title)
    figure, axes = figures.new_figure(9.0, 0.8 + LINE_HEIGHT * len(captions), title)
    axes.set_axis_off()
    for number, caption in enumerate(captions):
        place = 1 - (number + 0.5) / len(captions)
        axes.text(0, place, figures.plain(caption), transform=axes.transAxes, fontsize=8, va="center")
    return figure


def _centre(picture: np.ndarray, side: int) -> np.ndarray:
    """Return the picture in the middle of a white square."""
    square = np.full((side, side, 3), 255, np.uint8)
    y = (side - picture.shape[0]) // 2
    x = (side - picture.shape[1]) // 2
    square[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return square
