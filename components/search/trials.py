"""The record of a search's trial: a file in the trial's folder. A trial that has a record is not run again.

trial-007/trial.json     values and the scores of each finished rung: all the state that a search has
trial-007/running.json   while a worker runs the trial; remains if the worker dies
trial-007/fit/           checkpoints, if the rungs are epochs of one fit; deleted when the search ends
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import Refusal, first_line, pluralize
from ..files import check_fields, read_object
from .objective import Scores

RECORD, MARKER, FIT = "trial.json", "running.json", "fit"
FIELD_TYPES = {
    "arm": str,
    "number": int,
    "values": dict,
    "parts": list,
    "diverged": str,
    "lost": str,
    "began": int,
    "ended": int,
}
log = logging.getLogger(__name__)


@dataclass
class Trial:
    """One set of values and its scores; these are the fields of trial.json."""

    arm: str
    number: int
    values: dict[str, Any]  # {dotted recipe key: value}
    parts: list[Scores] = field(default_factory=list)  # scores of each finished rung
    finished: bool = False  # all rungs are done
    seconds: float = 0.0
    accumulate: int = 1  # microbatches per batch, more after running out of memory
    diverged: str = ""  # the reason, if it diverged
    cumulative: bool = False  # each rung goes on from the one before, such as an epoch
    lost: str = ""  # the reason, if it was given up because its workers died
    began: int = 0  # when its first rung began and its last one ended, in milliseconds since 1970; 0: unknown
    ended: int = 0
    memory: float = 0.0  # largest share of its GPU's memory that it took; 0 without a GPU

    @property
    def reason(self) -> str:
        """Return why the trial did not end with a score, or ""."""
        return self.lost or self.diverged

    @property
    def rung_scores(self) -> list[Scores]:
        """Return the scores after each rung: means over those of the rungs so far, or a cumulative trial's own."""
        if self.cumulative:
            return self.parts
        return [_mean_scores(self.parts[: count + 1]) for count in range(len(self.parts))]

    @property
    def scores(self) -> Scores:
        """Return the scores after the last finished rung, or {}."""
        return self.rung_scores[-1] if self.parts else {}


def trial_name(number: int) -> str:
    """Return the name of a trial's folder."""
    return f"trial-{number:03d}"


def read_trial(folder: Path) -> Trial | None:
    """Return the trial whose folder this is, or None before its first rung is finished.

    A damaged record is reported and counts as none: the trial is run again.
    """
    file = folder / RECORD
    if not file.exists():
        return None
    try:
        return _parse_trial(read_object(file))
    except (Refusal, ValueError, TypeError) as error:
        log.warning("%s is damaged (%s): the trial is run again", file, first_line(error))
        return None


def _parse_trial(record: dict[str, Any]) -> Trial:
    """Return the trial of a record; raise TypeError or ValueError for a field that is missing or of another type."""
    trial = Trial(**record)
    check_fields(vars(trial), FIELD_TYPES)
    if type(trial.accumulate) is not int or trial.accumulate < 1 or not isinstance(trial.seconds, int | float):
        raise ValueError("'accumulate' or 'seconds' is not a valid number")
    if not isinstance(trial.memory, int | float):
        raise ValueError("'memory' is not a number")
    for part in trial.parts:
        if not isinstance(part, dict) or not all(isinstance(value, int | float) for value in part.values()):
            raise ValueError("the scores of a rung are not numbers by name")
    return trial


def read_trials(folder: Path, samples: int) -> list[Trial]:
    """Return those of the first `samples` trials below `folder` that have a record, by number."""
    trials = [read_trial(folder / trial_name(number)) for number in range(samples)]
    return [trial for trial in trials if trial is not None]


def best_trial(trials: list[Trial], monitor: tuple[str, str]) -> Trial:
    """Return the finished trial with the best monitored score; ties go to the lower loss, then the lower number."""
    name, mode = monitor
    sign = 1 if mode == "max" else -1
    finished = [trial for trial in trials if trial.finished]
    return max(finished, key=lambda trial: (sign * trial.scores[name], -trial.scores.get("loss", 0), -trial.number))


def describe_trial(trial: Trial, values_only: bool = False, rungs: str = "folds") -> str:
    """Return a line such as `lr=0.0123 batch=16  accuracy 0.93 loss 0.2 after 4 folds`; rungs: what they are called."""
    values = " ".join(_format_value(key.rpartition(".")[2], value) for key, value in trial.values.items())
    if values_only:
        return values
    scores = " ".join(f"{name} {_format_score(value)}" for name, value in trial.scores.items())
    return f"{values}  {trial.reason or scores} after {pluralize(len(trial.parts), rungs.removesuffix('s'))}"


def _format_score(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4f}"


def _format_value(name: str, value: Any) -> str:
    """Return `lr=0.0123`, or for a section the callable that it names with its arguments: `sgd lr=0.1`."""
    if isinstance(value, dict):
        parts = [_format_value(key, item) for key, item in value.items() if key != "use"]
        if "use" in value:
            parts.insert(0, str(value["use"]).rpartition(".")[2])
        return " ".join(parts)
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return " + ".join(_format_value("", item) for item in value)
    return f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"


def _mean_scores(parts: list[Scores]) -> Scores:
    """Return the mean of each score over the rungs that have it: a fold has none for a class that it lacks."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: float(np.mean([part[name] for part in parts if name in part])) for name in names}
