"""The driver's side of a search: run it, diagnose its trials, label their pages and choose the best of each arm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.search import ray_tune
from components.search.objective import Objective
from components.search.trials import Trial, best_trial
from components.verdicts.diagnosis import Diagnosis
from pipelines.stage import diagnoses
from pipelines.stage.context import Stage


@dataclass(frozen=True)
class ArmResult:
    """The trials of one arm by number, a diagnosis for each, and the best trial."""

    trials: list[Trial]
    diagnoses: list[Diagnosis]
    best: Trial


def run_search(
    run: Stage,
    objective: Objective,
    options: dict[str, Any],
    trivial: float | None,
    on_trial: Callable[[Trial, Path], None],
) -> dict[str, ArmResult]:
    """Run the search in the folder of `run` and return the result of each arm.

    options: keyword arguments of `ray_tune.search`, as the recipe states them.
    trivial: the loss of a model that ignores its input, for the diagnoses.
    on_trial: called with a trial and its folder whenever one ends or pauses.
    """
    results = {}
    for arm, trials in ray_tune.search(objective, run.folder, on_trial, **options).items():
        verdicts = diagnoses.diagnose_trials(trials, objective.monitor, trivial)
        diagnoses.label_trials(run.folder, trials, verdicts)
        results[arm] = ArmResult(trials, verdicts, best_trial(trials, objective.monitor))
    return results
