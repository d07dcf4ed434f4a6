"""Draw pictures beside their true and predicted masks."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ..data.masks import IGNORED
from .figures import add_legend, add_title, plain, shorten, styled

NAMES_PER_ROW = 6


@styled
def draw_masks(
    pictures: Sequence[np.ndarray],
    true: Sequence[np.ndarray],
    predicted: Sequence[np.ndarray],
    classes: Sequence[str],
    title: str,
    columns: int = 2,
) -> Figure:
    """Draw image, truth and prediction in a row, `columns` such triples side by side.

    pictures: uint8 [H, W, 1 or 3]; true, predicted: uint8 [H, W]; classes: names of their values 0, 1, ...; pixels that
    are not judged are white in both masks.
    """
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    height, width = pictures[0].shape[:2]
    legend = 0.25 * -(-len(classes) // NAMES_PER_ROW)
    figure = Figure(figsize=(5.4 * columns, 1.8 * rows * height / width + 0.6 + legend), layout="constrained")
    add_title(figure, title)
    palette = choose_palette(len(classes))
    axes = figure.subplots(rows, 3 * columns, squeeze=False).flat
    for place in axes:
        place.set_axis_off()
    for number, (picture, truth, guess) in enumerate(zip(pictures, true, predicted, strict=True)):
        ignored = truth == IGNORED
        panels = [picture[..., 0] if picture.shape[-1] == 1 else picture]
        panels += [_paint(mask, ignored, palette) for mask in (truth, guess)]
        for panel, name, place in zip(panels, ("image", "truth", "prediction"), axes[3 * number :], strict=False):
            place.imshow(panel, cmap="gray", vmin=0, vmax=255, interpolation="none")
            if number < columns:
                place.set_title(name, fontsize=8)
    patches = [Patch(color=palette[value] / 255, label=plain(shorten(name))) for value, name in enumerate(classes)]
    add_legend(figure, patches)
    return figure


def choose_palette(count: int) -> np.ndarray:
    """Return a colour for each of `count` values, uint8 [count, 3]; that of the background is dark grey."""
    hues = matplotlib.colormaps["tab20" if count <= 21 else "hsv"]
    spread = np.arange(count - 1) / max(1, count - 1 if count > 21 else 20)
    # tab20 holds pairs of similar colours: the ten strong ones come first
    order = np.concatenate([np.arange(0, 20, 2), np.arange(1, 20, 2)]) / 20 + 0.01
    colours = [hues(order[index] if count <= 21 else spread[index])[:3] for index in range(count - 1)]
    return np.rint(255 * np.array([(0.16, 0.16, 0.16), *colours])).astype(np.uint8)


def _paint(mask: np.ndarray, ignored: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Return a mask [H, W] in colours, uint8 [H, W, 3]."""
    painted = palette[np.where(mask == IGNORED, 0, mask)]
    painted[ignored] = 255
    return painted
