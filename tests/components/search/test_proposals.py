"""Proposals depend on what has ended alone; ASHA is that of its paper; a wrong space is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.errors import Refusal
from components.search import proposals

SPACE = {"lr": {"low": 0.01, "high": 1.0, "log": True}, "batch": {"choices": [8, 16]}}
MONITOR = ("accuracy", "max")
KNOWN = {"fit.batch": 16, "fit.clip": 1.0, "task.optimizer.use": "optimizers.adam", "task.optimizer.lr": 0.1}
KNOWN |= {"task.model.use": "models.resnet.ResNet", "task.model.blocks": 1}


def played(study: proposals.Study, score, pick=lambda count: 0) -> list[tuple[int, int]]:
    """(trial, until) of each proposal in order; `pick` says which of those that run ends next."""
    running: list[proposals.Proposal] = []
    while True:
        while one := study.propose():
            running.append(one)
        assert len(running) <= study.parallel
        if not running:
            assert study.over
            return [(one.number, one.until) for one in study.asked]
        one = running.pop(pick(len(running)))
        study.end(one, score(one))


def of_the_paper(scores: list[float], samples: int, rungs: list[int], reduction: int) -> list[tuple[int, int]]:
    """Algorithm 2 of Li et al. 2020 ("get_job"), one worker, larger is better, as long as it grows or promotes."""
    at: list[list[int]] = [[] for _ in rungs]  # who came to a rung
    promoted: list[set[int]] = [set() for _ in rungs]
    jobs: list[tuple[int, int]] = []
    for _ in range(samples * len(rungs)):
        for k in reversed(range(len(rungs) - 1)):
            top = sorted(at[k], key=lambda n: -scores[n])[: len(at[k]) // reduction]
            promotable = [n for n in top if n not in promoted[k]]
            if promotable:
                promoted[k].add(promotable[0])
                at[k + 1].append(promotable[0])
                jobs.append((promotable[0], rungs[k + 1]))
                break
        else:
            if len(at[0]) == samples:
                break
            at[0].append(len(at[0]))
            jobs.append((len(at[0]) - 1, rungs[0]))
    return jobs


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 10**6), min_size=30, max_size=30, unique=True),
    st.integers(1, 30),
    st.integers(1, 12),
    st.integers(2, 4),
    st.booleans(),
)
def test_who_goes_on_is_as_in_the_paper(
    scores: list[int], samples: int, rungs: int, reduction: int, maximise: bool
) -> None:
    sign = 1 if maximise else -1
    study = proposals.Study(SPACE, samples, 1, ("x", "max" if maximise else "min"), 0, rungs, reduction)
    ours = played(study, lambda one: float(sign * scores[one.number]))
    theirs = of_the_paper([float(score) for score in scores], samples, study.milestones, reduction)
    assert ours[: len(theirs)] == theirs
    more = {number for number, _ in ours[len(theirs) :]}
    assert not more or (rungs not in [until for _, until in theirs] and len(more) == 1), "one comes to the end"
    assert rungs in [until for _, until in ours]


def test_milestones_are_powers_and_the_end() -> None:
    found = [proposals.milestones(rungs, 3) for rungs in (1, 2, 3, 4, 9, 10)]
    assert found == [[1], [1, 2], [1, 3], [1, 3, 4], [1, 3, 9], [1, 3, 9, 10]]
    assert proposals.milestones(5, 2) == [1, 2, 4, 5]
    assert proposals.milestones(5, 1) == [5], "all go on"


@pytest.mark.parametrize("parallel", [1, 2, 3])
@settings(deadline=None, max_examples=30)
@given(st.randoms(use_true_random=False))
def test_proposals_do_not_depend_on_who_ends_first(parallel: int, random) -> None:
    """However the running trials finish, the same values are proposed, and go on, in the same order."""

    def made(pick) -> list[tuple[dict, int]]:
        study = proposals.Study(SPACE, 8, parallel, MONITOR, seed=1, rungs=4, reduction=2)
        played(study, lambda one: 1 - abs(np.log10(one.values["lr"]) + 1), pick)
        return [(one.values, one.until) for one in study.asked]

    assert made(random.randrange) == made(lambda count: 0)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-0.5, 0.5), min_size=9, max_size=9), st.integers(0, 99))
def test_a_fold_that_is_harder_for_all_changes_no_proposal(harder: list[float], seed: int) -> None:
    """Where a fold moves every trial's score alike, the same values are tried, and go on, as without it."""

    def made(moves: list[float]) -> list[tuple[float, int]]:
        study = proposals.Study(SPACE, 16, 1, MONITOR, seed, rungs=9)

        def score(one: proposals.Proposal) -> float:
            return round(float(-abs(np.log10(one.values["lr"]) + 1) + np.mean(moves[: one.until])), 9)

        played(study, score)
        return [(one.values["lr"], one.until) for one in study.asked]

    assert made([round(move, 3) for move in harder]) == made([0.0] * 9)


def test_one_that_met_strong_ones_first_is_not_lost() -> None:
    """Second of the first three, it waits; of six it is in the best third, and goes on."""
    study = proposals.Study(SPACE, 6, 1, MONITOR, seed=0, rungs=3)
    scores = [0.9, 0.8, 0.1, 0.2, 0.3, 0.4]
    assert played(study, lambda one: scores[one.number]) == [
        *((0, 1), (1, 1), (2, 1), (0, 3)),
        *((3, 1), (4, 1), (5, 1), (1, 3)),
    ]


def test_a_lost_trial_is_no_measure_for_others() -> None:
    """Whatever it scored before; where all are lost, there is nothing left to try."""
    study = proposals.Study(SPACE, 4, 1, MONITOR, seed=0, rungs=3)
    scores = {(0, 1): 0.9, (0, 3): None, (1, 1): 0.1, (2, 1): 0.2, (3, 1): 0.3, (3, 3): 0.3}
    done = played(study, lambda one: scores[one.number, one.until])
    assert done == [(0, 1), (1, 1), (2, 1), (0, 3), (3, 1), (3, 3)], "the best of three, not the second of four"
    assert played(proposals.Study(SPACE, 3, 2, MONITOR, seed=0, rungs=3), lambda one: None) == [(0, 1), (1, 1), (2, 1)]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.none() | st.floats(0, 1), min_size=12, max_size=12),
    st.integers(1, 12),
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(1, 4),
)
def test_whatever_trials_score_one_comes_to_the_end(
    scores: list[float | None], samples: int, parallel: int, rungs: int, reduction: int
) -> None:
    study = proposals.Study(SPACE, samples, parallel, MONITOR, seed=0, rungs=rungs, reduction=reduction)
    done = played(study, lambda one: scores[one.number])
    assert len(set(done)) == len(done) <= samples * len(study.milestones)
    assert {number for number, _ in done} == set(range(samples))
    came = [number for number, until in done if until == rungs and scores[number] is not None]
    assert came or scores[:samples] == [None] * samples


@pytest.mark.parametrize(
    ("space", "says"),
    [
        ({}, "must map"),
        ({"fit.bach": {"choices": [1]}}, "did you mean 'fit.batch'"),
        ({"fit.batch": {"low": 1}}, "needs {low, high}"),
        ({"fit.batch": {"choices": []}}, "needs {low, high}"),
        ({"fit.batch": {"low": 4, "high": 2}}, "low must be below high"),
        ({"fit.batch": {"low": 0, "high": 2, "log": True}}, "above 0 on a log scale"),
        ({"fit.batch": {"low": "a", "high": "b"}}, "numbers"),
        ({"fit.batch": {"low": 1, "high": math.inf}}, "finite numbers"),
        ({"fit.clip": {"low": 1, "high": 4}}, "whole numbers are tried, and this takes others; write {low: 1.0, high"),
        ({"task.optimizer.lr": {"low": 1, "high": 2}}, "or {choices: [...]}"),
        ({"fit.batch": 4}, "needs {low, high}"),
        ({"task.optimizer": {"choices": [{"use": "optimizers.sgd"}]}}, "by search.sampler: grid alone"),
    ],
)
def test_a_wrong_space_is_refused(space: dict, says: str) -> None:
    with pytest.raises(Refusal) as refused:
        proposals.check_space(space, KNOWN)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    "space",
    [
        *({"fit.batch": {"low": 1, "high": 4}}, {"task.model.blocks": {"low": 1, "high": 4}}),
        *({"fit.clip": {"low": 1.0, "high": 4.0}}, {"task.optimizer.lr": {"low": 0.5, "high": 2}}),
    ],
)
def test_whole_bounds_are_for_what_takes_whole_numbers(space: dict) -> None:
    proposals.check_space(space, KNOWN)


def test_a_grid_is_of_choices_alone_and_may_try_whole_sections() -> None:
    known = {"fit.batch": 16, "task.optimizer.use": "optimizers.adam"}
    sections = [{"use": "optimizers.sgd"}, {"use": "optimizers.adam"}]
    proposals.check_space({"task.optimizer": {"choices": sections}}, known, sampler="grid")
    with pytest.raises(Refusal, match="a grid needs"):
        proposals.check_space({"fit.batch": {"low": 1, "high": 9}}, known, sampler="grid")
    assert proposals.grid_combinations({"a": {"choices": [1, 2]}, "b": {"choices": ["x", "y"]}}) == [
        {"a": 1, "b": "x"},
        {"a": 1, "b": "y"},
        {"a": 2, "b": "x"},
        {"a": 2, "b": "y"},
    ]


def test_a_grid_proposes_each_combination_once_to_its_end() -> None:
    made = proposals.GridStudy({"a": {"choices": [1, 2]}, "b": {"choices": ["x"]}}, rungs=3)
    found = [made.propose(), made.propose()]
    assert [(one.number, one.values, one.until) for one in found if one] == [
        (0, {"a": 1, "b": "x"}, 3),
        (1, {"a": 2, "b": "x"}, 3),
    ]
    assert made.over
    assert made.propose() is None
