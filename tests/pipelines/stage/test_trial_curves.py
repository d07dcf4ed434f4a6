"""The picture of a search's curves: the loss, or for a task without a single one all that its steps measure."""

from __future__ import annotations

import pytest

from components.search.trials import Trial
from pipelines.stage import trial_curves

TRIALS = [Trial("trials", number, {"task.model": {"use": f"models.{name}"}}) for number, name in enumerate(("a", "b"))]


def rows(*names: str) -> list[dict]:
    """Return three epochs of both trials, in which each metric has the value 10 * trial + epoch, in all rungs."""
    return [
        {
            "trial": trial,
            "rung": rung,
            "step": str(epoch),
            "epoch": str(epoch),
            **{name: str(10 * trial + epoch) for name in names},
        }
        for trial in (0, 1)
        for rung in (0, 1)
        for epoch in (1, 2, 3)
    ]


def test_a_task_without_a_single_loss_shows_all_that_its_steps_measure() -> None:
    figure = trial_curves.draw_trial_curves(rows("train/accuracy", "train/line_loss", "train/gradient_norm"), TRIALS)
    assert figure is not None
    assert [axes.get_title("left") for axes in figure.axes] == ["line loss", "accuracy"]
    for axes in figure.axes:
        assert [line.get_label() for line in axes.lines] == ["a", "b"]
        assert [line.get_ydata().tolist() for line in axes.lines] == [[1, 2, 3], [11, 12, 13]]


@pytest.mark.parametrize(
    ("names", "titles"),
    [
        (("train/loss", "train/accuracy", "learning_rate"), ["training loss", "learning rate"]),
        (tuple(f"train/{letter}" for letter in "abcdef"), ["a", "b", "c", "d"]),
    ],
)
def test_the_loss_stands_alone_and_other_metrics_are_few(names: tuple[str, ...], titles: list[str]) -> None:
    figure = trial_curves.draw_trial_curves(rows(*names), TRIALS)
    assert figure is not None
    assert [axes.get_title("left") for axes in figure.axes] == titles


def test_nothing_is_drawn_without_curves() -> None:
    assert trial_curves.draw_trial_curves([], TRIALS) is None
    assert trial_curves.draw_trial_curves(rows("learning_rate"), TRIALS) is None
