"""What a search tries next, and who of those it tried goes on: Optuna's TPE and ASHA, or every combination of a grid.

A pure function of (seed, parallel, scores), however long a trial takes and whoever runs it: the n-th proposal depends
on what became of those up to n - parallel alone, which have ended by then.
"""

from __future__ import annotations

import ast
import math
import warnings
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise, product
from typing import Any

import numpy as np

from ..errors import Refusal, suggest_name
from ..recipes import recipe
from ..recipes.ranges import RANGES

FRACTIONS = {"float", *(name for name, (types, _, _) in RANGES.items() if float in types)}  # annotations


def check_space(space: Any, known: dict[str, Any], where: str = "tune.space", sampler: str = "tpe") -> None:
    """Refuses a search space that names no value or section of the (flattened) recipe `known`, or nothing to search."""
    if not isinstance(space, dict) or not space:
        raise Refusal(f"{where}: must map dotted recipe keys to {{low, high, log}} or {{choices: [...]}}")
    for key, given in space.items():
        if key not in known and not any(name.startswith(f"{key}.") for name in known):
            raise Refusal(f"{where}: the recipe has no value '{key}'{suggest_name(key, known)}")
        choices = given.get("choices") if isinstance(given, dict) else None
        if choices is not None and isinstance(choices, list) and choices and set(given) == {"choices"}:
            if sampler != "grid" and any(isinstance(choice, dict | list) for choice in choices):
                raise Refusal(f"{where}.{key}: whole sections can be tried by search.sampler: grid alone")
            continue
        if sampler == "grid":
            raise Refusal(f"{where}.{key}: a grid needs {{choices: [...]}}")
        if not isinstance(given, dict) or not {"low", "high"} <= set(given) <= {"low", "high", "log"}:
            raise Refusal(f"{where}.{key}: needs {{low, high}} with an optional log: true, or {{choices: [...]}}")
        if not all(isinstance(given[end], int | float) and math.isfinite(given[end]) for end in ("low", "high")):
            raise Refusal(f"{where}.{key}: low and high must be finite numbers; it is {given}")
        if not given["low"] < given["high"] or (given.get("log") and given["low"] <= 0):
            raise Refusal(f"{where}.{key}: low must be below high, and above 0 on a log scale; it is {given}")
        if _whole(given) and _takes_fractions(key, known):
            low, high = (float(given[end]) for end in ("low", "high"))
            raise Refusal(
                f"{where}.{key}: between whole bounds only whole numbers are tried, and this takes others; write"
                f" {{low: {low}, high: {high}}}, or {{choices: [...]}}"
            )


def _whole(given: dict[str, Any]) -> bool:
    return isinstance(given["low"], int) and isinstance(given["high"], int)


def _takes_fractions(key: str, known: dict[str, Any]) -> bool:
    """Whether the argument that `key` names is annotated as any number."""
    owner, _, name = key.rpartition(".")
    path = "training.engine.fit" if owner == "fit" else known.get(f"{owner}.use")
    argument = recipe.signature(path).get(name) if path else None
    named = ast.walk(argument.annotation) if argument and argument.annotation else ()
    return any(isinstance(node, ast.Name) and node.id in FRACTIONS for node in named)


def _distribution(given: dict[str, Any]) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if "choices" in given:
        return CategoricalDistribution(given["choices"])
    return (IntDistribution if _whole(given) else FloatDistribution)(
        given["low"], given["high"], log=given.get("log", False)
    )


@dataclass(frozen=True)
class Proposal:
    """Trial `number` with these values shall have `until` rungs behind it."""

    number: int
    values: dict[str, Any] = field(compare=False)
    until: int


class Study:
    """One arm's search: TPE says what a new trial tries, ASHA who goes on from milestone to milestone.

    ASHA as in Li et al. 2020, algorithm 2: whoever is among the best 1/`reduction` of those that came to a milestone,
    and has not gone on yet, does, from the highest milestone down; where there is nobody, a new trial starts. So one
    that had the bad luck to be compared with few is not lost. In the end the best goes on until one has come through.
    """

    def __init__(
        self,
        space: dict,
        samples: int,
        parallel: int,
        monitor: tuple[str, str],
        seed: int,
        rungs: int = 1,
        reduction: int = 3,
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # says so of `multivariate`
        self.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(4, 2 * len(space)), multivariate=True)
        self.space = {key: _distribution(given) for key, given in space.items()}
        self.samples, self.parallel, self.reduction = samples, parallel, reduction
        self.milestones = milestones(rungs, reduction)
        self.sign = 1 if monitor[1] == "max" else -1
        self.tried: list[dict[str, Any]] = []  # values of each trial
        self.asked: list[Proposal] = []
        self.ended: dict[Proposal, float | None] = {}
        self.over = False  # nothing is left to propose

    def propose(self) -> Proposal | None:
        """None while there is one to wait for, or when all is over."""
        for known in range(max(0, len(self.asked) - self.parallel + 1), len(self.asked) + 1):
            if not all(earlier in self.ended for earlier in self.asked[:known]):
                return None
            if proposed := self._next(known):
                self.asked.append(proposed)
                return proposed
        self.over = True
        return None

    def end(self, proposed: Proposal, score: float | None) -> None:
        """`score`: the monitored one, a mean over the rungs so far; None where the trial was lost or diverged."""
        self.ended[proposed] = score

    def _next(self, known: int) -> Proposal | None:
        """By what became of the first `known` proposals."""
        seen, busy = self._seen(known), {proposed.number for proposed in self.asked[known:]}
        for at, following in reversed(list(pairwise(self.milestones))):
            came = sorted((n for n in seen if at in seen[n]), key=lambda n: -self.sign * seen[n][at])
            for number in came[: len(came) // self.reduction]:
                if following not in seen[number] and number not in busy:
                    return Proposal(number, self.tried[number], following)
        if len(self.tried) < self.samples:
            self.tried.append(self._sampled(seen))
            return Proposal(len(self.tried) - 1, self.tried[-1], self.milestones[0])
        if known < len(self.asked) or any(self.milestones[-1] in scores for scores in seen.values()):
            return None
        best = max(seen, key=lambda n: (max(seen[n]), self.sign * seen[n][max(seen[n])]), default=None)
        if best is None:  # all were lost
            return None
        return Proposal(best, self.tried[best], next(m for m in self.milestones if m not in seen[best]))

    def _seen(self, known: int) -> dict[int, dict[int, float]]:
        """{trial: {milestone: score}}; one that was lost is no measure for others, whatever it scored before."""
        seen: dict[int, dict[int, float]] = defaultdict(dict)
        lost = set()
        for proposed in self.asked[:known]:
            score = self.ended[proposed]
            if score is None:
                lost.add(proposed.number)
            else:
                seen[proposed.number][proposed.until] = score
        return {number: scores for number, scores in seen.items() if number not in lost}

    def _sampled(self, seen: dict[int, dict[int, float]]) -> dict[str, Any]:
        import optuna

        study = optuna.create_study(direction="maximize" if self.sign > 0 else "minimize", sampler=self.sampler)
        for number in seen:
            value = self._levelled(number, seen)
            study.add_trial(optuna.trial.create_trial(params=self.tried[number], distributions=self.space, value=value))
        return dict(study.ask(self.space).params)

    def _levelled(self, number: int, seen: dict[int, dict[int, float]]) -> float:
        """A trial's score without what the rungs after the first moved the trials that came as far, on average.

        Some folds are harder than others for every trial: a mean over the first is no measure beside one over all.
        """
        first, came = self.milestones[0], max(seen[number])
        as_far = [scores for scores in seen.values() if came in scores]
        return seen[number][came] - float(np.mean([scores[came] - scores[first] for scores in as_far]))


def milestones(rungs: int, reduction: int) -> list[int]:
    """1, r, r * r, ... and the last rung; reduction 1: the last alone, for all go on."""
    if reduction == 1 or rungs == 1:
        return [rungs]
    made = [1]
    while made[-1] * reduction < rungs:
        made.append(made[-1] * reduction)
    return [*made, rungs]


def grid_combinations(space: dict[str, Any]) -> list[dict[str, Any]]:
    """Every combination of the choices, the last key's changing fastest."""
    return [
        dict(zip(space, values, strict=True)) for values in product(*(given["choices"] for given in space.values()))
    ]


class GridStudy:
    """Every combination in a fixed order, each to the end, whatever came of those before."""

    def __init__(self, space: dict[str, Any], rungs: int) -> None:
        self.all = [Proposal(number, values, rungs) for number, values in enumerate(grid_combinations(space))]
        self.asked: list[Proposal] = []

    @property
    def over(self) -> bool:
        return len(self.asked) == len(self.all)

    def propose(self) -> Proposal | None:
        if self.over:
            return None
        self.asked.append(self.all[len(self.asked)])
        return self.asked[-1]

    def end(self, proposed: Proposal, score: float | None) -> None:
        """What a trial scored changes nothing."""
