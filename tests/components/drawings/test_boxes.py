"""True and detected boxes are drawn at their coordinates, each kind in its own style."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from components.drawings.boxes import DETECTED, TRUE, Boxes, draw_detections
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
