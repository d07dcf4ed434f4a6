"""Heat maps of attention label their rows and columns, and show every weight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.drawings import figures
from components.drawings.attention import draw_kernel_weights, draw_token_attention


def test_rows_are_queries_and_columns_keys(tmp_path: Path) -> None:
    weights = np.array([[0.5, 0.5, 0.0], [0.0, 0.25, 0.75]])
    figure = draw_kernel_weights(weights, np.array([1.0, 2.0]), np.array([0.5, 1.5, 2.5]), "Attention weights")
    axes = figure.axes[0]
    (mesh,) = axes.collections
    assert np.asarray(mesh.get_array()).ravel() == pytest.approx(weights.ravel())
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.5", "1.5", "2.5"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1.0", "2.0"]
    assert axes.yaxis_inverted()
    assert figures.save_figure(figure, tmp_path / "heat.png").stat().st_size > 5000


def test_rows_are_output_tokens_and_columns_source_tokens(tmp_path: Path) -> None:
    weights = np.array([[1.0, 0.0, 0.0], [0.2, 0.3, 0.5]])
    figure = draw_token_attention(weights, ["one", "two", "<eos>"], ["deux", "<eos>"], "Where it looks")
    (axes,) = figure.axes
    assert np.array_equal(axes.images[0].get_array(), weights)
    assert axes.images[0].get_clim() == (0, 1)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["one", "two", "<eos>"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["deux", "<eos>"]
    assert figures.save_figure(figure, tmp_path / "attention.png").stat().st_size > 2000
