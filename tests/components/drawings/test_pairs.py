"""Pairs of numbers are drawn side by side, not one after the other."""

from __future__ import annotations

from pathlib import Path

from components.drawings import figures
from components.drawings.pairs import draw_pairs


def test_both_bars_begin_at_zero_and_the_first_has_its_number(tmp_path: Path) -> None:
    rows = {"cat": (0.91, 0.5), "dog": (0.25, 0.75), "absent": (float("nan"), 0.0)}
    figure = draw_pairs(rows, ("precision", "chance"), "Precision per tag", "precision")
    (axes,) = figure.axes
    bars = {group.get_label(): list(group) for group in axes.containers}
    assert {name: [bar.get_width() for bar in group] for name, group in bars.items()} == {
        "precision": [0.91, 0.25, 0.0],
        "chance": [0.5, 0.75, 0.0],
    }
    assert all(bar.get_x() == 0 for group in bars.values() for bar in group)
    for first, second in zip(bars["precision"], bars["chance"], strict=True):
        assert first.get_y() + first.get_height() < second.get_y()
    assert [text.get_text() for text in axes.texts] == ["0.91", "0.25", "-"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", "absent"]
    assert axes.yaxis_inverted()
    assert figures.save_figure(figure, tmp_path / "pairs.png").stat().st_size > 5000
