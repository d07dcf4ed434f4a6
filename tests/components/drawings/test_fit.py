"""Figures of a regression show every example, and connect predictions in the order of x."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from components.drawings import figures
from components.drawings.fit import draw_curve_fit, draw_predicted_against_true


def test_predictions_are_a_line_over_x_and_points_against_the_truth(tmp_path: Path) -> None:
    x, truth, predicted = np.array([2.0, 0.0, 1.0]), np.array([4.0, 0.0, 1.0]), np.array([5.0, 1.0, 2.0])
    figure = draw_curve_fit(x, truth, predicted, "Prediction over x")
    (line,), (points,) = figure.axes[0].lines, figure.axes[0].collections
    assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([0, 1, 2], [1, 2, 5])
    assert points.get_offsets().tolist() == [[2, 4], [0, 0], [1, 1]]
    assert figures.save_figure(figure, tmp_path / "over.png").stat().st_size > 5000
    figure = draw_predicted_against_true(predicted, truth, "Prediction against truth")
    (diagonal,), (points,) = figure.axes[0].lines, figure.axes[0].collections
    assert points.get_offsets().tolist() == [[4, 5], [0, 1], [1, 2]]
    assert diagonal.get_xydata().tolist() == [[0, 0], [5, 5]]
    assert figures.save_figure(figure, tmp_path / "against.png").stat().st_size > 5000
