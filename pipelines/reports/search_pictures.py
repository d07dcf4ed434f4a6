"""Draw the trials of a search, what a grid measures over one of its values, and the gradient norms of its fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from components.drawings.figures import Curve, Interval, draw_curves, draw_intervals
from components.drawings.search import draw_trials as draw_epochs
from components.runs import journal
from components.search.trials import Trial, describe_trial

MIN_POINTS = 3  # values of a sweep below which no curve is drawn
MAX_CURVES = 8
LOG_RANGE = 8.0  # greatest over smallest value from which an axis is logarithmic
NORM = "train/gradient_norm"


def draw_trials(trials: list[Trial], score: str, kind: str = "folds") -> Figure:
    """Draw a search: the curve of every trial over epochs, or each finished trial's mean and standard deviation.

    The points below a mean are its folds or seeds.
    """
    if kind == "epochs":
        curves = [([part[score] for part in trial.parts], trial.finished) for trial in trials if trial.parts]
        return draw_epochs(curves, f"{score} after each epoch", score)
    intervals = {}
    for trial in trials:
        if trial.finished and score in trial.scores:
            points = tuple(part[score] for part in trial.parts)
            mean = float(np.mean(points))
            deviation = float(np.std(points, ddof=1)) if len(points) > 1 else 0.0
            name = f"trial {trial.number:02d}  {describe_trial(trial, values_only=True)}"
            intervals[name] = Interval(mean, mean - deviation, mean + deviation, points)
    title = f"{score} over the {kind}, mean ± standard deviation"
    return draw_intervals(intervals, title, score, percent=score.endswith("accuracy"))


def draw_sweep(trials: Sequence[Trial], space: Mapping[str, Any], score: str) -> Figure | None:
    """Draw the score over the first numeric value of a grid with MIN_POINTS choices or more, one colour per rest.

    space: {dotted key: {choices: [...]}}. Thin lines are single folds or seeds. Return None without such a value.
    """
    key = next((key for key, entry in space.items() if _is_numeric(entry.get("choices", []))), None)
    finished = [trial for trial in trials if trial.finished]
    if key is None or not finished:
        return None
    groups: dict[str, list[Trial]] = {}
    for trial in sorted(finished, key=lambda trial: float(trial.values[key])):
        rest = {name: value for name, value in trial.values.items() if name != key}
        name = describe_trial(Trial(trial.arm, trial.number, rest), values_only=True) or score
        groups.setdefault(name, []).append(trial)
    curves = {
        name: [
            (np.array([trial.values[key] for trial in group]), np.array([trial.parts[rung][score] for trial in group]))
            for rung in range(min(len(trial.parts) for trial in group))
        ]
        for name, group in groups.items()
    }
    if len(curves) > MAX_CURVES or max(len(group) for group in groups.values()) < MIN_POINTS:
        return None
    x = np.array([trial.values[key] for trial in finished], dtype=float)
    y = np.array([part[score] for trial in finished for part in trial.parts])
    log = "".join(axis for axis, values in (("x", x), ("y", y)) if _spans_decades(values))
    x_label = key.rpartition(".")[2].replace("_", " ")
    return draw_curves(curves, f"{score} over {x_label}", x_label, log)


def read_gradient_norms(folder: Path) -> Curve | None:
    """Return (step [N], norm of the gradient before clipping [N]) of the fit in `folder`, or None without a journal."""
    if not (folder / journal.LOG).is_file():
        return None
    points = [
        (metrics.step, metrics.values[NORM]) for metrics in journal.read_metrics(folder) if NORM in metrics.values
    ]
    finite = [point for point in points if np.isfinite(point[1]) and point[1] > 0]
    return tuple(np.array(finite, dtype=float).T) if len(finite) > 1 else None


def draw_gradient_norms(curves: Mapping[str, Curve]) -> Figure | None:
    """Draw the gradient norms {trial: (step, norm)} on a log scale; None without a curve, or with more than fit in."""
    if not 0 < len(curves) <= MAX_CURVES:
        return None
    groups = {name: [curve] for name, curve in curves.items()}
    return draw_curves(groups, "Norm of the gradient before clipping", "step", "y")


def _is_numeric(choices: Sequence[Any]) -> bool:
    numbers = [choice for choice in choices if isinstance(choice, int | float) and not isinstance(choice, bool)]
    return len(numbers) == len(choices) >= MIN_POINTS


def _spans_decades(values: np.ndarray) -> bool:
    return bool(values.min() > 0 and values.max() / values.min() >= LOG_RANGE)
