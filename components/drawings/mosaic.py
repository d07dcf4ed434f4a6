"""Draw many small pictures as one, without captions; fast enough to run after every epoch."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from . import figures

GAP = 2  # pixels


@figures.styled
def draw_mosaic(pictures: np.ndarray, columns: int = 10) -> Figure:
    """Draw pictures uint8 [N, H, W, C], C being 1 or 3, row by row."""
    count, height, width, channels = pictures.shape
    rows = -(-count // columns)
    sheet = np.full((rows * columns, height + GAP, width + GAP, channels), 255, np.uint8)
    sheet[:count, :height, :width] = pictures
    sheet = sheet.reshape(rows, columns, height + GAP, width + GAP, channels).swapaxes(1, 2)
    sheet = sheet.reshape(rows * (height + GAP), columns * (width + GAP), channels)[:-GAP, :-GAP]
    figure = Figure(figsize=(0.6 * columns, 0.6 * columns * sheet.shape[0] / sheet.shape[1]))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(np.broadcast_to(sheet, (*sheet.shape[:2], 3)), interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    return figure
