"""The figure of a comparison shows every system at its cost and score, with a readable name."""

from __future__ import annotations

from pathlib import Path

from components.drawings import figures
from components.drawings.costs import draw_costs
from components.drawings.figures import Interval


def test_every_system_is_at_its_cost_and_score(tmp_path: Path) -> None:
    rows = {"small": (1e5, Interval(0.8, 0.7, 0.9)), "large": (1e9, Interval(0.9, 0.85, 0.95))}
    figure = draw_costs(rows, "Score against cost", "operations", "accuracy")
    axes = figure.axes[0]
    named = {line.get_label(): (line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines}
    assert named["small"] == (1e5, 0.8)
    assert named["large"] == (1e9, 0.9)
    assert [text.get_text() for text in axes.texts] == ["small", "large"]
    assert axes.get_xscale() == "log"
    assert figures.save_figure(figure, tmp_path / "costs.png").stat().st_size > 5000


def test_names_do_not_overlap() -> None:
    """Draw seven systems of nearly the same cost and score."""
    rows = {f"system {i}": (1e6 * 1.05**i, Interval(0.9 + 0.002 * (i % 3), 0.85, 0.95)) for i in range(7)}
    figure = draw_costs(rows | {"far": (1e3, Interval(0.5, 0.4, 0.6))}, "Crowded", "operations", "accuracy")
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 8
    assert not any(box.overlaps(other) for i, box in enumerate(boxes) for other in boxes[:i])
