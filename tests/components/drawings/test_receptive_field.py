"""Each layer's receptive field is drawn where it was computed, and its legend names its size."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch.nn import Module

from components.drawings.receptive_field import draw_receptive_fields
from components.models.convnet import ConvNet
from components.tasks.classification import Classification
from components.training.task import State

SIDES = (24, 40)


def drawn_pixels(figure: Figure) -> dict[str, tuple[Any, Any]]:
    """Return {label: (rows, columns)}, each the first and the last pixel inside a rectangle."""
    pixels = {}
    for patch in figure.axes[0].patches:
        x, y = cast(Rectangle, patch).get_xy()
        width, height = cast(Rectangle, patch).get_width(), cast(Rectangle, patch).get_height()
        pixels[str(patch.get_label())] = ((y + 0.5, y + height - 0.5), (x + 0.5, x + width - 0.5))
    return pixels


def test_rectangles_cover_the_pixels_of_the_fields() -> None:
    fields = {"1": ((11, 13), (19, 21)), "2": ((9, 16), (0, 39))}
    figure = draw_receptive_fields(fields, SIDES)
    assert drawn_pixels(figure) == {"1: 3 x 3": fields["1"], "2: 8 x 40": fields["2"]}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["1: 3 x 3", "2: 8 x 40"]
    assert figure.axes[0].get_xlim() == (-0.5, SIDES[1] - 0.5)
    assert figure.axes[0].get_ylim() == (SIDES[0] - 0.5, -0.5), "the first row is on top"


@pytest.mark.parametrize("convolutions", [[1, 1], [2, 2]])
def test_a_network_s_fields_are_drawn_as_computed(convolutions: list[int]) -> None:
    """Compare what the task draws with the computed sizes; in the middle of a large picture no border cuts a field."""
    net = ConvNet(1, SIDES, 10, convolutions=convolutions, widths=[2, 2])
    task = Classification(ConvNet)
    task.classes = ["a", "b"]
    state = State(modules={"net": cast(Module, net)}, optimizers={})
    labels = {"label": np.array([0, 1])}
    pixels = drawn_pixels(task.draw(state, labels, labels)["receptive_field"])
    sizes = [field.size for field in net.receptive_fields()]
    assert sizes[-1] < min(SIDES)
    assert list(pixels) == [f"{index}: {size} x {size}" for index, size in enumerate(sizes, 1)]
    for (rows, columns), size in zip(pixels.values(), sizes, strict=True):
        assert rows[1] - rows[0] + 1 == columns[1] - columns[0] + 1 == size
        assert rows[0] <= SIDES[0] / 2 <= rows[1] + 1
        assert columns[0] <= SIDES[1] / 2 <= columns[1] + 1
