"""Draw true and detected boxes on pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from ..errors import Refusal
from .figures import BLUE, INK, ORANGE, PAPER, add_legend, add_title, styled

TRUE = BLUE
DETECTED = ORANGE
# Pictures to draw, and the lowest score of the detections drawn on them.
PICTURES_DRAWN = 12
SCORE_DRAWN = 0.5


@dataclass(frozen=True)
class Boxes:
    """The boxes of one picture: corners x1, y1, x2, y2 [N, 4] in pixels, ends exclusive, and a word for each."""

    boxes: np.ndarray
    words: Sequence[str] = ()


@styled
def draw_detections(
    pictures: Sequence[np.ndarray], true: Sequence[Boxes], detected: Sequence[Boxes], title: str, columns: int = 4
) -> Figure:
    """Draw a grid of pictures, uint8 [H, W, 1 or 3]: true boxes dashed, detected ones solid, with their words."""
    if not len(pictures) == len(true) == len(detected) > 0:
        counts = f"{len(pictures)} pictures, {len(true)} sets of true boxes and {len(detected)} of detected boxes"
        raise Refusal(f"{counts}: each picture needs one of each")
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    height, width = pictures[0].shape[:2]
    figure = Figure(figsize=(2.2 * columns, 2.2 * rows * height / width + 0.7), layout="constrained")
    add_title(figure, title)
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.set_axis_off()
    for axes, picture, true_boxes, detected_boxes in zip(figure.axes, pictures, true, detected, strict=False):
        flat = picture[..., 0] if picture.shape[-1] == 1 else picture
        # With this extent a pixel spans one whole unit, as in the coordinates of the boxes.
        axes.imshow(flat, cmap="gray", vmin=0, vmax=255, interpolation="none", extent=(0, width, height, 0))
        _outline(axes, true_boxes, TRUE, "--", 1.0)
        _outline(axes, detected_boxes, DETECTED, "-", 1.4)
    add_legend(
        figure,
        [
            Line2D([], [], color=TRUE, linestyle="--", linewidth=1.0, label="true"),
            Line2D([], [], color=DETECTED, linewidth=1.4, label="found"),
        ],
    )
    return figure


def draw_confident(
    targets: dict[str, Any], predictions: dict[str, np.ndarray], classes: Sequence[str], title: str
) -> Figure:
    """Draw the first pictures with their true boxes and the detections with a score of at least SCORE_DRAWN.

    targets: columns image and boxes. predictions: boxes [B, N, 4], scores [B, N] and labels [B, N]; masks [B, N, H, W]
    of the same detections, if there are any, tint the pictures.
    """
    pictures = list(targets["image"][:PICTURES_DRAWN])
    true = [Boxes(boxes) for boxes in targets["boxes"][:PICTURES_DRAWN]]
    detected = []
    for row in range(len(pictures)):
        confident = predictions["scores"][row] >= SCORE_DRAWN
        names = [classes[label] for label in predictions["labels"][row][confident]]
        detected.append(Boxes(predictions["boxes"][row][confident], names))
        if "masks" in predictions:
            pictures[row] = _tint(pictures[row], predictions["masks"][row][confident].any(0))
    return draw_detections(pictures, true, detected, title)


def _tint(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return a picture [H, W, 1 or 3] as uint8 [H, W, 3], half of it in the colour DETECTED where the mask is set."""
    picture = np.broadcast_to(picture, (*picture.shape[:2], 3)).copy()
    picture[mask] = picture[mask] / 2 + np.array(to_rgb(DETECTED)) * 127.5
    return picture


def _outline(axes: Axes, boxes: Boxes, colour: str, line: str, width: float) -> None:
    """Draw the outlines of boxes, and their words at the upper left corners."""
    for x1, y1, x2, y2 in boxes.boxes:
        patch = Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linestyle=line, linewidth=width)
        axes.add_patch(patch)
    label = {"facecolor": colour, "edgecolor": "none", "pad": 0.8, "alpha": 0.85}
    for (x1, y1, *_), word in zip(boxes.boxes, boxes.words, strict=False):
        axes.text(x1, y1, word, color=PAPER if colour == TRUE else INK, fontsize=6, va="bottom", bbox=label)
