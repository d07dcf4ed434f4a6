"""Keep the curves of a search's trials: a file per rung while it runs, then a table and a picture of all trials."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.recipes import recipe
from components.runs import journal
from components.search.trials import Trial, describe_trial
from pipelines.stage.outputs import write_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CURVES = 12  # trials in one picture
MOST_PANELS = 4  # metrics in one picture, the learning rate apart
LOSS, RATE, NORM = "train/loss", "learning_rate", "train/gradient_norm"
Curves = dict[str, tuple[np.ndarray, np.ndarray]]  # trial -> epoch [N], value [N]


def curve_file(folder: str | Path, values: dict[str, Any], rung: int) -> Path:
    """Return the file for the curves of the rung numbered `rung` of the trial with these values."""
    return Path(folder) / f"{recipe.digest(values)[:16]}-{rung}.csv"


def write_curves(file: Path, run: Path) -> None:
    """Write the metrics in the journal of the run in the folder `run` as a table: a line per step."""
    lines = [
        {"step": metrics.step, "epoch": round(metrics.epoch, 4), **metrics.values}
        for metrics in journal.read_metrics(run)
    ]
    write_table(file, lines)


def read_curves(folders: Sequence[Path], trials: list[Trial]) -> list[dict[str, Any]]:
    """Return the lines of all rungs' files with the numbers of their trial and rung; the first folder with one counts.

    folders: that of this search, then those of earlier searches whose trials it has taken over.
    """
    rows = []
    for trial in trials:
        for rung in range(len(trial.parts)):
            files = [curve_file(folder, trial.values, rung) for folder in folders]
            file = next((file for file in files if file.is_file()), None)
            if file is not None:
                with file.open(newline="") as lines:
                    rows += [{"trial": trial.number, "rung": rung, **line} for line in csv.DictReader(lines)]
    return rows


def draw_trial_curves(rows: list[dict[str, Any]], trials: list[Trial]) -> Figure | None:
    """Draw the trials over epochs, each as the mean of its rungs: the loss, and the rates if a schedule moves them.

    A task without a single loss has an axis per metric of its steps. Return None without curves, or with more trials
    than one picture can show.
    """
    from components.drawings import figures  # only the driver draws

    panels = {title: _mean_curves(rows, metric, trials) for metric, title in training_metrics(rows).items()}
    if len(trials) > MOST_CURVES or not any(len(x) > 1 for curves in panels.values() for x, _ in curves.values()):
        return None
    rates = _mean_curves(rows, RATE, trials)
    if any(np.ptp(rate) > 0 for _, rate in rates.values()):
        panels["learning rate"] = rates  # the names of the trials state constant rates
    return figures.draw_panels(panels, "Curves of the trials")


def training_metrics(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Return {metric: title of its axes}: the training loss or, where there is no single one, what the steps measure.

    Of these metrics the losses come first.
    """
    if any(row.get(LOSS) for row in rows):
        return {LOSS: "training loss"}
    names = dict.fromkeys(name for row in rows for name in row if name.startswith("train/") and name != NORM)
    losses_first = sorted(names, key=lambda name: not name.endswith("loss"))
    return {name: name.removeprefix("train/").replace("_", " ") for name in losses_first[:MOST_PANELS]}


def _mean_curves(rows: list[dict[str, Any]], metric: str, trials: list[Trial]) -> Curves:
    """Return {trial: the metric over epochs, averaged over its rungs}; a trial without the metric is left out."""
    curves = {}
    for trial in trials:
        points: dict[float, list[float]] = {}
        for row in rows:
            if row["trial"] == trial.number and row.get(metric):
                points.setdefault(float(row["epoch"]), []).append(float(row[metric]))
        if points:
            epochs = sorted(points)
            means = np.array([np.mean(points[epoch]) for epoch in epochs])
            curves[describe_trial(trial, values_only=True)] = (np.array(epochs), means)
    return curves
