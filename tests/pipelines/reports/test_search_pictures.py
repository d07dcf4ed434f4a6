"""Check which grids are drawn as a sweep, with which curves, and which gradient norms are read from a journal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.runs import journal
from components.runs.journal import Journal
from components.search.trials import Trial
from pipelines.reports import search_pictures
from pipelines.reports.search_pictures import draw_gradient_norms, draw_sweep, read_gradient_norms

COUNTS = [10, 100, 1000]
SPACE = {"task.model.bidirectional": {"choices": [True, False]}, "fit.examples": {"choices": COUNTS}}


def trials() -> list[Trial]:
    grid = [(both, count) for both in (True, False) for count in COUNTS]
    return [
        Trial(
            "trials",
            number,
            {"task.model.bidirectional": both, "fit.examples": count},
            parts=[{"gap": 1 / count + both}, {"gap": 3 / count + both}],
            finished=True,
        )
        for number, (both, count) in enumerate(grid)
    ]


def test_a_score_is_drawn_over_the_numeric_value_of_a_grid() -> None:
    figure = draw_sweep(trials(), SPACE, "gap")
    axes = figure.axes[0]
    means = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    assert set(means) == {"bidirectional=True", "bidirectional=False"}
    line = means["bidirectional=False"]
    assert line.get_xdata().tolist() == COUNTS
    assert np.allclose(line.get_ydata(), [2 / count for count in COUNTS])
    assert len(axes.lines) == 2 * 3, "two seeds and their mean per curve"
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_grids_without_a_numeric_value_have_no_sweep() -> None:
    two = {"task.model.bidirectional": {"choices": [True, False]}, "fit.batch": {"choices": [1, 2]}}
    assert draw_sweep(trials(), two, "gap") is None
    assert draw_sweep([], SPACE, "gap") is None


def test_gradient_norms_are_those_of_the_journal(tmp_path: Path) -> None:
    assert read_gradient_norms(tmp_path) is None
    written = Journal(tmp_path / journal.LOG)
    for step, norm in ((1, 0.5), (2, 40.0), (3, float("inf")), (4, 0.25)):
        written.write("metric", step=step, epoch=0.0, values={"train/loss": 1.0, "train/gradient_norm": norm})
    written.sync()
    steps, norms = read_gradient_norms(tmp_path)
    assert (steps.tolist(), norms.tolist()) == ([1, 2, 4], [0.5, 40.0, 0.25])
    figure = draw_gradient_norms({"none": (steps, norms), "norm": (steps, norms / 2)})
    assert figure.axes[0].get_yscale() == "log"
    assert draw_gradient_norms({}) is None


def test_trials_with_the_same_rounded_values_have_a_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_pictures, "draw_intervals", lambda rows, *_, **__: rows)
    rates = (0.012341, 0.012343, 0.1)
    trials = [Trial("trials", n, {"lr": rate}, [{"accuracy": n / 10}], True) for n, rate in enumerate(rates)]
    assert [row.value for row in search_pictures.draw_trials(trials, "accuracy").values()] == [0.0, 0.1, 0.2]
