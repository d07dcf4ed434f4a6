"""What the next trial of a search tries, and whether it goes on: Optuna's TPE and ASHA, or every combination of a grid.

A pure function of (seed, parallel, scores), however long a trial takes and whoever runs it: what trial n tries, and
whether it goes on, depends on the trials up to n - parallel alone, which have ended by then.
"""

from __future__ import annotations

import warnings
from itertools import product
from typing import Any

import numpy as np

from components.refusal import Refusal, closest


def check_space(space: Any, known: dict[str, Any], where: str = "tune.space", sampler: str = "tpe") -> None:
    """Refuses a search space that names no value or section of the (flattened) recipe `known`, or nothing to search."""
    if not isinstance(space, dict) or not space:
        raise Refusal(f"{where}: must map dotted recipe keys to {{low, high, log}} or {{choices: [...]}}")
    for key, given in space.items():
        if key not in known and not any(name.startswith(f"{key}.") for name in known):
            raise Refusal(f"{where}: the recipe has no value '{key}'{closest(key, known)}")
        choices = given.get("choices") if isinstance(given, dict) else None
        if choices is not None and isinstance(choices, list) and choices and set(given) == {"choices"}:
            if sampler != "grid" and any(isinstance(choice, dict | list) for choice in choices):
                raise Refusal(f"{where}.{key}: whole sections can be tried by search.sampler: grid alone")
            continue
        if sampler == "grid":
            raise Refusal(f"{where}.{key}: a grid needs {{choices: [...]}}")
        if not isinstance(given, dict) or not {"low", "high"} <= set(given) <= {"low", "high", "log"}:
            raise Refusal(f"{where}.{key}: needs {{low, high}} with an optional log: true, or {{choices: [...]}}")
        if not all(isinstance(given[end], int | float) for end in ("low", "high")):
            raise Refusal(f"{where}.{key}: low and high must be numbers; it is {given}")
        if not given["low"] < given["high"] or (given.get("log") and given["low"] <= 0):
            raise Refusal(f"{where}.{key}: low must be below high, and above 0 on a log scale; it is {given}")


def _distribution(key: str, given: dict[str, Any]) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if "choices" in given:
        return CategoricalDistribution(given["choices"])
    whole = isinstance(given["low"], int) and isinstance(given["high"], int)
    return (IntDistribution if whole else FloatDistribution)(given["low"], given["high"], log=given.get("log", False))


class Study:
    """For one arm, what trial n tries, by TPE, and whether it goes on, by ASHA: from the trials up to n - parallel.

    Those have all ended when n is proposed. The first, which have none to be compared with, go to the end.
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
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(4, 2 * len(space)), multivariate=True)
        self.study = optuna.create_study(direction="maximize" if monitor[1] == "max" else "minimize", sampler=sampler)
        self.space = {key: _distribution(key, given) for key, given in space.items()}
        self.samples, self.parallel = samples, parallel
        self.rungs, self.reduction, self.maximise = rungs, reduction, monitor[1] == "max"
        self.seen: dict[int, list[float]] = {}  # scores after each rung
        self.asked = self.told = 0
        self.ended: dict[int, float | None] = {}

    def propose(self) -> tuple[int, dict[str, Any]] | None:
        """(number, values); None while there is one to wait for, or when all have been asked for."""
        number, known = self.asked, max(0, self.asked - self.parallel + 1)
        if number == self.samples or not all(earlier in self.ended for earlier in range(known)):
            return None
        import optuna

        for earlier in range(self.told, known):
            value = self._levelled(earlier, range(known))
            lost = optuna.trial.TrialState.FAIL if value is None else None
            self.study.tell(earlier, value, state=lost)
        self.told, self.asked = known, number + 1
        return number, self.study.ask(self.space).params

    def _levelled(self, number: int, known: range) -> float | None:
        """A trial's score without what the rungs after the first moved the trials that came as far, on average.

        Some folds are harder than others for every trial: a mean over the first is no measure beside one over all.
        """
        score, came = self.ended[number], len(self.seen.get(number, []))
        if score is None or came == 0:
            return score
        as_far = [s for n in known if len(s := self.seen.get(n, [])) >= came]
        return score - float(np.mean([s[came - 1] - s[0] for s in as_far]))

    def keeps(self, number: int, rung: int, score: float) -> bool:
        """Whether the trial goes on after `rung`, where the mean over its rungs is `score`."""
        self.seen.setdefault(number, []).append(score)
        known = [s for n in range(number - self.parallel + 1) if (s := self.seen.get(n, []))]
        others = [scores[rung - 1] for scores in known if len(scores) >= rung]
        return rung == self.rungs or goes_on(score, others, rung, self.reduction, self.maximise)

    def again(self, number: int) -> None:
        """The trial tells its rungs from the first one on."""
        self.seen.pop(number, None)

    def end(self, number: int, value: float | None) -> None:
        """`value`: the monitored score, however far the trial came; None when it was lost or diverged."""
        self.ended[number] = value
        if value is None:
            self.seen.pop(number, None)  # what it scored before is no measure for others


def grid(space: dict[str, Any]) -> list[dict[str, Any]]:
    """Every combination of the choices, the last key's changing fastest."""
    return [
        dict(zip(space, values, strict=True)) for values in product(*(given["choices"] for given in space.values()))
    ]


class Grid:
    """Proposals of one arm in a fixed order, whatever came of those before."""

    def __init__(self, space: dict[str, Any]) -> None:
        self.all, self.asked = grid(space), 0

    def propose(self) -> tuple[int, dict[str, Any]] | None:
        number, self.asked = self.asked, min(self.asked + 1, len(self.all))
        return (number, self.all[number]) if number < len(self.all) else None

    def keeps(self, number: int, rung: int, score: float) -> bool:
        """None is stopped early."""
        return True

    def again(self, number: int) -> None:
        """Nothing to forget."""

    def end(self, number: int, value: float | None) -> None:
        """What a trial scored changes nothing."""


def goes_on(score: float, others: list[float], rung: int, reduction: int, maximise: bool = True) -> bool:
    """ASHA's rule (Li et al. 2020): at rungs 1, r, r*r, ... only the best 1/r of those that came so far go on.

    others: the scores at this rung of the trials to compare with.
    """
    milestone = 1
    while milestone < rung:
        milestone *= reduction
    if milestone != rung or not others:
        return True
    sign = 1 if maximise else -1
    return bool(sign * score >= np.percentile([sign * other for other in others], 100 * (1 - 1 / reduction)))
