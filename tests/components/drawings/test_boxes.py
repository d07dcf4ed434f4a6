"""True and detected boxes are drawn at their coordinates, each kind in its own style."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from components.drawings.boxes import COLOURS, DETECTED, TRUE, WORDS_DRAWN, Boxes, draw_confident, draw_detections
from components.drawings.figures import save_figure
from components.errors import Refusal


def rectangles(axes) -> list[tuple]:
    patches = [p for p in axes.patches if isinstance(p, Rectangle)]
    return [(*p.get_xy(), p.get_width(), p.get_height(), to_hex(p.get_edgecolor())) for p in patches]


def test_each_picture_has_its_own_boxes_and_words() -> None:
    pictures = [np.zeros((20, 30, 1), np.uint8), np.zeros((20, 30, 3), np.uint8)]
    true = [Boxes(np.array([[1.0, 2, 11, 8]])), Boxes(np.zeros((0, 4)))]
    detected = [
        Boxes(np.array([[0.0, 2, 10, 8]]), ["7"]),
        Boxes(np.array([[5.0, 5, 6, 9], [1, 1, 2, 2]]), ["cat", "dog"]),
    ]
    figure = draw_detections(pictures, true, detected, "title")
    first, second = figure.axes
    assert rectangles(first) == [(1, 2, 10, 6, TRUE), (0, 2, 10, 6, DETECTED)]
    assert rectangles(second) == [(5, 5, 1, 4, DETECTED), (1, 1, 1, 1, DETECTED)]
    assert [[t.get_text() for t in axes.texts] for axes in (first, second)] == [["7"], ["cat", "dog"]]
    assert list(first.images[0].get_extent()) == [0, 30, 20, 0]  # pixels and boxes share coordinates


def test_classes_masks_and_scores_are_told_apart() -> None:
    """Check words with scores, a colour per class or object, outlined masks, and no words in crowded pictures."""
    image = np.full((1, 20, 30, 1), 100, np.uint8)
    boxes = np.array([[[1.0, 2, 11, 12], [15, 5, 20, 9], [0, 0, 1, 1]]])
    predictions = {"boxes": boxes, "scores": np.array([[0.9, 0.75, 0.1]]), "labels": np.array([[1, 0, 0]])}
    targets = {"image": image, "boxes": [boxes[0, :1]]}
    (axes,) = draw_confident(targets, predictions, ["cat", "dog"], "few").axes
    assert [text.get_text() for text in axes.texts] == ["0.90", "0.75"]
    assert [rectangle[-1] for rectangle in rectangles(axes)] == [TRUE, COLOURS[1], COLOURS[0]]
    (axes,) = draw_confident(targets, predictions, list("abcdefgh"), "many").axes
    assert [text.get_text() for text in axes.texts] == ["b 0.90", "a 0.75"]
    masks = np.zeros((1, 3, 20, 30), np.uint8)
    masks[0, 0, 3:10, 2:9] = 1
    (axes,) = draw_confident(targets, predictions | {"masks": masks}, ["cat", "dog"], "masks").axes
    shown = axes.images[0].get_array()
    assert to_hex(shown[3, 2] / 255) == COLOURS[0]
    assert to_hex(shown[6, 5] / 255) not in (COLOURS[0], to_hex([100 / 255] * 3))
    assert (shown[15, 20] == 100).all()
    crowded = {name: values.repeat(WORDS_DRAWN, 1) for name, values in predictions.items()}
    (axes,) = draw_confident(targets, crowded, ["cat", "dog"], "crowded").axes
    assert len(axes.texts) == 0
    assert len(axes.patches) == 1 + 2 * WORDS_DRAWN


def test_the_same_boxes_give_the_same_bytes(tmp_path) -> None:
    def drawn(name: str) -> bytes:
        picture = np.arange(300, dtype=np.uint8).reshape(10, 30, 1)
        box = Boxes(np.array([[2.0, 2, 8, 8]]), ["1"])
        return save_figure(draw_detections([picture] * 5, [box] * 5, [box] * 5, "five"), tmp_path / name).read_bytes()

    assert drawn("a.png") == drawn("b.png")


def test_a_picture_without_its_boxes_is_refused() -> None:
    picture, boxes = np.zeros((4, 4, 1), np.uint8), Boxes(np.zeros((0, 4)))
    with pytest.raises(Refusal, match="2 pictures, 2 sets of true boxes and 1 of detected boxes"):
        draw_detections([picture] * 2, [boxes] * 2, [boxes], "")
