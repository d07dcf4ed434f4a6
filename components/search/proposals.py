"""Decide what a search tries next: Optuna's TPE and ASHA, or every combination of a grid.

The n-th proposal is a pure function of the seed, `parallel` and the results of the first n - parallel proposals, all of
which have ended by then. How long a trial takes and where it runs change nothing.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from .parameters import compose, decompose, has_integer_bounds, has_sections, list_parameters
from .space import grid_combinations

MilestoneScores = dict[int, dict[int, float]]  # {trial: {milestone: score}}


@dataclass(frozen=True)
class Proposal:
    """The request to run trial `number` with these values until `target_rungs` of its rungs are done."""

    number: int
    values: dict[str, Any] = field(compare=False)
    target_rungs: int


class Study:
    """The search of one arm: TPE chooses the values of a new trial, ASHA promotes trials from milestone to milestone.

    ASHA as in Li et al. 2020, algorithm 2: a trial is promoted if it is among the best 1/`reduction` of those that
    reached a milestone; the highest milestone comes first. If no trial can be promoted, a new one starts. So a trial
    that was first compared with a few strong ones can still be promoted later. In the end the best trial is promoted
    until one has done all rungs.
    """

    def __init__(
        self,
        space: dict[str, Any],
        samples: int,
        parallel: int,
        monitor: tuple[str, str],
        seed: int,
        rungs: int = 1,
        reduction: int = 3,
        start: Sequence[dict[str, Any]] = (),
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # about `multivariate`
        parameters = list_parameters(space)
        self.sampler = optuna.samplers.TPESampler(
            seed=seed,
            n_startup_trials=max(4, 2 * len(parameters)),
            multivariate=True,
            group=any(map(has_sections, space.values())),  # parameters of a section exist in some trials only
        )
        self.space = space
        self.distributions = {name: make_distribution(entry) for name, entry in parameters.items()}
        self.start = start
        self.samples = samples
        self.parallel = parallel
        self.reduction = reduction
        self.milestones = milestones(rungs, reduction)
        self.sign = 1 if monitor[1] == "max" else -1
        self.values: list[dict[str, Any]] = []  # of each trial
        self.proposals: list[Proposal] = []
        self.scores: dict[Proposal, float | None] = {}
        self.finished = False  # nothing is left to propose

    def propose(self) -> Proposal | None:
        """Return the next proposal; None if it depends on a running trial, or if nothing is left (`finished`)."""
        first = max(0, len(self.proposals) - self.parallel + 1)
        for count in range(first, len(self.proposals) + 1):
            if not all(earlier in self.scores for earlier in self.proposals[:count]):
                return None
            if proposal := self._next_proposal(count):
                self.proposals.append(proposal)
                return proposal
        self.finished = True
        return None

    def record_score(self, proposal: Proposal, score: float | None) -> None:
        """Record the monitored score after the target rung; None if the trial was lost or diverged."""
        self.scores[proposal] = score

    def _next_proposal(self, count: int) -> Proposal | None:
        """Return the proposal that follows from the scores of the first `count` proposals, or None."""
        scores = self._milestone_scores(count)
        running = {proposal.number for proposal in self.proposals[count:]}
        if promotion := self._promotion(scores, running):
            return promotion
        if len(self.values) < self.samples:
            self.values.append(self._sample(scores))
            return Proposal(len(self.values) - 1, self.values[-1], self.milestones[0])
        last = self.milestones[-1]
        if running or not scores or any(last in trial_scores for trial_scores in scores.values()):
            return None
        best = max(scores, key=lambda number: (max(scores[number]), self.sign * scores[number][max(scores[number])]))
        following = next(milestone for milestone in self.milestones if milestone not in scores[best])
        return Proposal(best, self.values[best], following)

    def _promotion(self, scores: MilestoneScores, running: set[int]) -> Proposal | None:
        """Return the promotion of the best trial that is due one, from the highest milestone down, or None."""
        for milestone, following in reversed(list(pairwise(self.milestones))):
            reached = [number for number in scores if milestone in scores[number]]
            reached.sort(key=lambda number: -self.sign * scores[number][milestone])
            for number in reached[: len(reached) // self.reduction]:
                if following not in scores[number] and number not in running:
                    return Proposal(number, self.values[number], following)
        return None

    def _milestone_scores(self, count: int) -> MilestoneScores:
        """Return the scores of the first `count` proposals, without lost trials: others are not compared with them."""
        scores: MilestoneScores = defaultdict(dict)
        lost = set()
        for proposal in self.proposals[:count]:
            score = self.scores[proposal]
            if score is None:
                lost.add(proposal.number)
            else:
                scores[proposal.number][proposal.target_rungs] = score
        return {number: trial_scores for number, trial_scores in scores.items() if number not in lost}

    def _sample(self, scores: MilestoneScores) -> dict[str, Any]:
        """Return the values of a new trial, as TPE chooses them after the trials in `scores`."""
        import optuna

        study = optuna.create_study(direction="maximize" if self.sign > 0 else "minimize", sampler=self.sampler)
        for number in scores:
            params = trial_parameters(self.space, self.values[number])
            distributions = {name: self.distributions[name] for name in params}
            value = self._comparable_score(number, scores)
            study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=value))
        if len(self.values) < len(self.start):
            study.enqueue_trial(trial_parameters(self.space, self.start[len(self.values)]))
        trial = study.ask()
        return {key: compose(key, entry, partial(_suggest, trial)) for key, entry in self.space.items()}

    def _comparable_score(self, number: int, scores: MilestoneScores) -> float:
        """Return a trial's score minus the average shift that later rungs caused in trials that reached the same rung.

        Some folds are harder than others for every trial, so a mean over all folds does not compare with the first's.
        """
        first = self.milestones[0]
        reached = max(scores[number])
        peers = [trial_scores for trial_scores in scores.values() if reached in trial_scores]
        shift = float(np.mean([trial_scores[reached] - trial_scores[first] for trial_scores in peers]))
        return scores[number][reached] - shift


def trial_parameters(space: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Return {parameter: value} of a trial's values; raise ValueError if they are not in the space."""
    parameters: dict[str, Any] = {}
    for key, value in values.items():
        part = decompose(key, space[key], value)
        if part is None:
            raise ValueError(f"{key} = {value} is outside the searched space")
        parameters |= part
    return parameters


def _suggest(trial: Any, name: str, entry: dict[str, Any]) -> Any:
    """Return the value that Optuna's trial takes for a parameter."""
    if "choices" in entry:
        return trial.suggest_categorical(name, entry["choices"])
    suggest = trial.suggest_int if has_integer_bounds(entry) else trial.suggest_float
    return suggest(name, entry["low"], entry["high"], log=entry.get("log", False))


def make_distribution(entry: dict[str, Any]) -> Any:
    """Return Optuna's distribution for a parameter."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if "choices" in entry:
        return CategoricalDistribution(entry["choices"])
    kind = IntDistribution if has_integer_bounds(entry) else FloatDistribution
    return kind(entry["low"], entry["high"], log=entry.get("log", False))


def milestones(rungs: int, reduction: int) -> list[int]:
    """Return the numbers of rungs after which trials are compared: 1, r, r^2, ... and all rungs, with r = `reduction`.

    With a reduction of 1 every trial does all rungs.
    """
    if reduction == 1 or rungs == 1:
        return [rungs]
    powers = [1]
    while powers[-1] * reduction < rungs:
        powers.append(powers[-1] * reduction)
    return [*powers, rungs]


class GridStudy:
    """The search of one arm over a grid: every combination in a fixed order, each with all rungs."""

    def __init__(self, space: dict[str, Any], rungs: int) -> None:
        self.remaining = [Proposal(number, values, rungs) for number, values in enumerate(grid_combinations(space))]
        self.proposals: list[Proposal] = []

    @property
    def finished(self) -> bool:
        """Return whether nothing is left to propose."""
        return not self.remaining

    def propose(self) -> Proposal | None:
        """Return the next combination, or None after the last."""
        if self.finished:
            return None
        self.proposals.append(self.remaining.pop(0))
        return self.proposals[-1]

    def record_score(self, proposal: Proposal, score: float | None) -> None:
        """Ignore the score: the order of a grid is fixed."""
