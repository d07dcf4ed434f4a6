"""Draw true and detected boxes on pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from ..errors import Refusal
from .figures import BLUE, GREEN, ORANGE, PAPER, VIOLET, add_legend, add_title, plain, shorten, styled

TRUE = BLUE
DETECTED = ORANGE
# Pictures to draw, and the lowest score of the detections drawn on them.
PICTURES_DRAWN = 12
SCORE_DRAWN = 0.5
# With more detections in a picture, words would hide it.
WORDS_DRAWN = 14
# Colours of classes, if there are few, or of objects with masks in turn; true boxes have another one.
COLOURS = (ORANGE, GREEN, VIOLET, "#d6336c", "#0c8599")
# Share of a mask's colour inside its outline.
TINT = 0.35
# Height of a word, as a share of the picture's.
WORD_HEIGHT = 0.06


@dataclass(frozen=True)
class Boxes:
    """The boxes of one picture: corners x1, y1, x2, y2 [N, 4] in pixels, ends exclusive, with words and colours."""

    boxes: np.ndarray
    words: Sequence[str] = ()
    colours: Sequence[str] = ()


@styled
def draw_detections(
    pictures: Sequence[np.ndarray],
    true: Sequence[Boxes],
    detected: Sequence[Boxes],
    title: str,
    columns: int = 4,
    names: Mapping[str, str] | None = None,
) -> Figure:
    """Draw a grid of pictures, uint8 [H, W, 1 or 3]: true boxes dashed, detected ones solid, with their words.

    names: {name: colour} of the detected boxes, for the legend.
    """
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
    lines = [Line2D([], [], color=TRUE, linestyle="--", linewidth=1.0, label="true")]
    for name, colour in (names or {"detected": DETECTED}).items():
        lines.append(Line2D([], [], color=colour, linewidth=1.4, label=plain(shorten(name))))
    add_legend(figure, lines)
    return figure


def draw_confident(
    targets: dict[str, Any], predictions: dict[str, np.ndarray], classes: Sequence[str], title: str
) -> Figure:
    """Draw the first pictures with their true boxes and the detections with a score of at least SCORE_DRAWN.

    targets: columns image and boxes. predictions: boxes [B, N, 4], scores [B, N] and labels [B, N]; masks [B, N, H, W]
    of the same detections, if there are any, are drawn in the colours of their boxes. Few classes have a colour each;
    otherwise the words name them. Pictures with many detections get no words.
    """
    pictures = list(targets["image"][:PICTURES_DRAWN])
    true = [Boxes(boxes) for boxes in targets["boxes"][:PICTURES_DRAWN]]
    has_masks = "masks" in predictions
    has_class_colours = 1 < len(classes) <= len(COLOURS) and not has_masks
    detected = []
    for row in range(len(pictures)):
        confident = predictions["scores"][row] >= SCORE_DRAWN
        scores, labels = predictions["scores"][row][confident], predictions["labels"][row][confident]
        colours = [DETECTED] * len(labels)
        if has_masks:
            colours = [COLOURS[place % len(COLOURS)] for place in range(len(labels))]
            pictures[row] = _tint(pictures[row], predictions["masks"][row][confident] > 0, colours)
        elif has_class_colours:
            colours = [COLOURS[label] for label in labels]
        words = [f"{score:.2f}" for score in scores]
        if len(classes) > 1 and not has_class_colours:
            words = [f"{classes[label]} {word}" for label, word in zip(labels, words, strict=True)]
        detected.append(
            Boxes(predictions["boxes"][row][confident], words if len(words) <= WORDS_DRAWN else (), colours)
        )
    names = dict(zip(classes, COLOURS, strict=False)) if has_class_colours else None
    if has_masks:
        names = {"detected, with a colour per object": DETECTED}
    return draw_detections(pictures, true, detected, title, names=names)


def _tint(picture: np.ndarray, masks: np.ndarray, colours: Sequence[str]) -> np.ndarray:
    """Return a picture [H, W, 1 or 3] as uint8 [H, W, 3] with masks, bool [N, H, W], tinted and outlined."""
    picture = np.broadcast_to(picture, (*picture.shape[:2], 3)).astype(np.float64)
    for mask, colour in zip(masks, colours, strict=True):
        padded = np.pad(mask, 1)
        inner = mask & padded[2:, 1:-1] & padded[:-2, 1:-1] & padded[1:-1, 2:] & padded[1:-1, :-2]
        weight = np.where(inner, TINT, mask)[..., None]
        picture = picture * (1 - weight) + 255 * np.array(to_rgb(colour)) * weight
    return np.rint(picture).astype(np.uint8)


def _outline(axes: Axes, boxes: Boxes, colour: str, line: str, width: float) -> None:
    """Draw the outlines of boxes, and their words at the upper left corners."""
    colours = boxes.colours or [colour] * len(boxes.boxes)
    for (x1, y1, x2, y2), own in zip(boxes.boxes, colours, strict=True):
        patch = Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=own, linestyle=line, linewidth=width)
        axes.add_patch(patch)
    margin = WORD_HEIGHT * axes.get_ylim()[0]
    for (x1, y1, *_), word, own in zip(boxes.boxes, boxes.words, colours, strict=False):
        label = {"facecolor": own, "edgecolor": "none", "pad": 0.6, "alpha": 0.8}
        # Above the box where that is inside the picture.
        side = "bottom" if y1 > margin else "top"
        axes.text(x1, y1, plain(word), color=PAPER, fontsize=5.5, va=side, bbox=label, clip_on=True)
