"""The driver's side of a search: run it, diagnose its trials, label their pages and choose the best of each arm."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any

from components.cluster.plan import count_machines, trials_per_gpu
from components.recipes import recipe
from components.search import ray_tune
from components.search.earlier import Key, find_searches, index_trials
from components.search.objective import Objective
from components.search.parameters import list_parameters
from components.search.proposals import trial_parameters
from components.search.trials import Trial, best_trial
from components.verdicts.diagnosis import Diagnosis
from pipelines.stage import diagnoses
from pipelines.stage.context import Stage

EDGE = 0.05  # share of an interval
MIN_NUMBERS = 3  # choices from which on the smallest and the largest are edges
SAFE_SHARE = 0.8  # of a GPU's memory, for trials that share it
MOST_TRIALS = 16  # on a GPU


@dataclass(frozen=True)
class ArmResult:
    """The trials of one arm by number, a diagnosis for each, and the best trial."""

    trials: list[Trial]
    diagnoses: list[Diagnosis]
    best: Trial
    edges: list[str] = field(default_factory=list)  # sentences about values at the edge of the searched space
    earlier: list[Path] = field(default_factory=list)  # folders of searches whose trials this one could take over


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
    objective = replace(objective, identity=_identify(run, objective, options["space"]))
    machines, started = count_machines(), time.monotonic()
    earlier = index_trials([*find_searches(run.folder, objective.identity), run.folder])
    try:
        trials_by_arm = ray_tune.search(objective, run.folder, on_trial, **options)
    finally:
        _add_usage(run, objective, earlier, time.monotonic() - started, machines)
    results = {}
    for arm, trials in trials_by_arm.items():
        verdicts = diagnoses.diagnose_trials(trials, objective.monitor, trivial)
        diagnoses.label_trials(run.folder, trials, verdicts)
        best = best_trial(trials, objective.monitor)
        edges = describe_edges(options["space"], best.values)
        results[arm] = ArmResult(trials, verdicts, best, edges, find_searches(run.folder, objective.identity))
        for sentence in results[arm].edges:
            run.log_text(f"{arm}: {sentence}" if len(objective.arms) > 1 else sentence)
    if hint := describe_memory([trial for result in results.values() for trial in result.trials]):
        run.log_text(hint)
    return results


def _add_usage(run: Stage, objective: Objective, earlier: dict[Key, Trial], seconds: float, machines: int) -> None:
    """Add to the stage's usage what its trials took; earlier: the trials that had a record when the search began."""
    trials = index_trials([run.folder])
    before = sum(earlier[key].seconds for key in trials if key in earlier)
    share = 1 / trials_per_gpu() if objective.gpu else 0.0
    spent = max(0.0, sum(trial.seconds for trial in trials.values()) - before)
    run.usage.add_trials(seconds, spent, share, machines)


def _identify(run: Stage, objective: Objective, space: dict[str, Any]) -> str:
    """Return a digest of all that decides the scores of a trial, beside its values."""
    arms = {}
    for arm, arguments in objective.arms.items():
        facts: dict[str, Any] = {}
        for name, value in arguments.items():
            facts[name] = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
        setup: Any = facts.get("setup", {})
        if "section" in setup:  # what the search replaces there decides nothing
            setup = setup | {"section": recipe.overlay(setup["section"], dict.fromkeys(space)), "curves": ""}
        arms[arm] = facts | {"setup": setup}
    options = [objective.function, objective.rungs, objective.monitor, objective.cumulative]
    return recipe.digest([run.origin, arms, options])


def describe_edges(space: dict[str, Any], values: dict[str, Any]) -> list[str]:
    """Return a sentence for each searched interval at whose edge the value lies: the best one may be outside."""
    parameters = list_parameters(space)
    sentences = []
    for name, value in trial_parameters(space, values).items():
        entry = parameters[name]
        edge = find_edge(entry, value)
        if edge is not None:
            interval = f"{entry['low']:g} to {entry['high']:g}" if "low" in entry else str(entry["choices"])
            sentences.append(
                f"the best {name} {value:.3g} lies at the {edge} edge of what was searched ({interval}); widen it"
            )
    return sentences


def find_edge(entry: dict[str, Any], value: Any) -> str | None:
    """Return "lower" or "upper" if the value lies within EDGE of an end of its interval, on its scale; else None.

    Of choices that are at least three numbers, the ends are the smallest and the largest.
    """
    if "choices" in entry:
        numbers = {choice for choice in entry["choices"] if type(choice) in (int, float)}
        if len(numbers) < max(MIN_NUMBERS, len(entry["choices"])):
            return None
        return {min(numbers): "lower", max(numbers): "upper"}.get(value)
    low, high, place = (math.log(x) if entry.get("log") else x for x in (entry["low"], entry["high"], value))
    if place - low <= EDGE * (high - low):
        return "lower"
    return "upper" if high - place <= EDGE * (high - low) else None


def describe_memory(trials: list[Trial]) -> str | None:
    """Return how many of these trials would fit on a GPU if that is more than share it now, otherwise None."""
    largest = max((trial.memory for trial in trials), default=0.0)
    if not largest:
        return None
    fitting = min(int(SAFE_SHARE / largest), MOST_TRIALS)
    if fitting <= trials_per_gpu():
        return None
    return f"trials took at most {largest:.1%} of a GPU's memory; TRAINYARD_TRIALS_PER_GPU={fitting} lets them share it"
