"""Test that proposals depend on earlier results only, and that promotion is ASHA as in its paper."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.search.proposals import GridStudy, Proposal, Study, milestones

SPACE = {"lr": {"low": 0.01, "high": 1.0, "log": True}, "batch": {"choices": [8, 16]}}
MONITOR = ("accuracy", "max")
Score = Callable[[Proposal], float | None]
Pick = Callable[[int], int]  # number of running trials -> position of the one that ends next


def play(study: Study, score: Score, pick: Pick = lambda count: 0) -> list[tuple[int, int]]:
    """Run a study to its end and return (trial, target rungs) of each proposal, in order."""
    running: list[Proposal] = []
    while True:
        while proposal := study.propose():
            running.append(proposal)
        assert len(running) <= study.parallel
        if not running:
            assert study.finished
            return [(proposal.number, proposal.target_rungs) for proposal in study.proposals]
        proposal = running.pop(pick(len(running)))
        study.record_score(proposal, score(proposal))


def reference_jobs(scores: list[float], samples: int, rungs: list[int], reduction: int) -> list[tuple[int, int]]:
    """Return the jobs of algorithm 2 ("get_job") in Li et al. 2020, until it neither grows nor promotes.

    With one worker; larger scores are better.
    """
    reached: list[list[int]] = [[] for _ in rungs]
    promoted: list[set[int]] = [set() for _ in rungs]
    jobs: list[tuple[int, int]] = []
    for _ in range(samples * len(rungs)):
        for k in reversed(range(len(rungs) - 1)):
            top = sorted(reached[k], key=lambda n: -scores[n])[: len(reached[k]) // reduction]
            promotable = [n for n in top if n not in promoted[k]]
            if promotable:
                promoted[k].add(promotable[0])
                reached[k + 1].append(promotable[0])
                jobs.append((promotable[0], rungs[k + 1]))
                break
        else:
            if len(reached[0]) == samples:
                break
            reached[0].append(len(reached[0]))
            jobs.append((len(reached[0]) - 1, rungs[0]))
    return jobs


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 10**6), min_size=30, max_size=30, unique=True),
    st.integers(1, 30),
    st.integers(1, 12),
    st.integers(2, 4),
    st.booleans(),
)
def test_promotions_are_those_of_the_paper(
    scores: list[int], samples: int, rungs: int, reduction: int, maximise: bool
) -> None:
    sign = 1 if maximise else -1
    study = Study(SPACE, samples, 1, ("x", "max" if maximise else "min"), 0, rungs, reduction)
    jobs = play(study, lambda proposal: float(sign * scores[proposal.number]))
    reference = reference_jobs([float(score) for score in scores], samples, study.milestones, reduction)
    assert jobs[: len(reference)] == reference
    promoted_at_the_end = {number for number, _ in jobs[len(reference) :]}
    if promoted_at_the_end:
        assert rungs not in [target for _, target in reference]
        assert len(promoted_at_the_end) == 1
    assert rungs in [target for _, target in jobs], "one trial does all rungs"


def test_milestones_are_powers_and_the_last_rung() -> None:
    assert milestones(1, 3) == [1]
    assert milestones(2, 3) == [1, 2]
    assert milestones(3, 3) == [1, 3]
    assert milestones(4, 3) == [1, 3, 4]
    assert milestones(9, 3) == [1, 3, 9]
    assert milestones(10, 3) == [1, 3, 9, 10]
    assert milestones(5, 2) == [1, 2, 4, 5]
    assert milestones(5, 1) == [5], "all trials do all rungs"


@pytest.mark.parametrize("parallel", [1, 2, 3])
@settings(deadline=None, max_examples=30)
@given(st.randoms(use_true_random=False))
def test_proposals_do_not_depend_on_which_trial_ends_first(parallel: int, random) -> None:
    def proposals(pick: Pick) -> list[tuple[dict, int]]:
        study = Study(SPACE, 8, parallel, MONITOR, seed=1, rungs=4, reduction=2)
        play(study, lambda proposal: 1 - abs(np.log10(proposal.values["lr"]) + 1), pick)
        return [(proposal.values, proposal.target_rungs) for proposal in study.proposals]

    assert proposals(random.randrange) == proposals(lambda count: 0)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-0.5, 0.5), min_size=9, max_size=9), st.integers(0, 99))
def test_a_fold_that_is_harder_for_all_trials_changes_no_proposal(shifts: list[float], seed: int) -> None:
    def proposals(shifts: list[float]) -> list[tuple[float, int]]:
        study = Study(SPACE, 16, 1, MONITOR, seed, rungs=9)

        def score(proposal: Proposal) -> float:
            error = abs(np.log10(proposal.values["lr"]) + 1)
            return round(float(-error + np.mean(shifts[: proposal.target_rungs])), 9)

        play(study, score)
        return [(proposal.values["lr"], proposal.target_rungs) for proposal in study.proposals]

    assert proposals([round(shift, 3) for shift in shifts]) == proposals([0.0] * 9)


def test_a_trial_that_met_strong_ones_first_is_promoted_later() -> None:
    """Trial 1 is second of the first three; it is in the best third of six."""
    study = Study(SPACE, 6, 1, MONITOR, seed=0, rungs=3)
    scores = [0.9, 0.8, 0.1, 0.2, 0.3, 0.4]
    assert play(study, lambda proposal: scores[proposal.number]) == [
        *((0, 1), (1, 1), (2, 1), (0, 3)),
        *((3, 1), (4, 1), (5, 1), (1, 3)),
    ]


def test_no_trial_is_compared_with_a_lost_one() -> None:
    """Whatever the lost trial scored before, and if all trials are lost, the search ends."""
    study = Study(SPACE, 4, 1, MONITOR, seed=0, rungs=3)
    scores = {(0, 1): 0.9, (0, 3): None, (1, 1): 0.1, (2, 1): 0.2, (3, 1): 0.3, (3, 3): 0.3}
    jobs = play(study, lambda proposal: scores[proposal.number, proposal.target_rungs])
    assert jobs == [(0, 1), (1, 1), (2, 1), (0, 3), (3, 1), (3, 3)], "the best of three, not the second of four"
    study = Study(SPACE, 3, 2, MONITOR, seed=0, rungs=3)
    assert play(study, lambda proposal: None) == [(0, 1), (1, 1), (2, 1)]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.none() | st.floats(0, 1), min_size=12, max_size=12),
    st.integers(1, 12),
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(1, 4),
)
def test_one_trial_does_all_rungs_whatever_trials_score(
    scores: list[float | None], samples: int, parallel: int, rungs: int, reduction: int
) -> None:
    study = Study(SPACE, samples, parallel, MONITOR, seed=0, rungs=rungs, reduction=reduction)
    jobs = play(study, lambda proposal: scores[proposal.number])
    assert len(set(jobs)) == len(jobs) <= samples * len(study.milestones)
    assert {number for number, _ in jobs} == set(range(samples))
    finished = [number for number, target in jobs if target == rungs and scores[number] is not None]
    assert finished or scores[:samples] == [None] * samples


OPTIMIZERS = {
    "optimizer": {
        "choices": [
            {"use": "optimizers.sgd", "lr": {"low": 0.01, "high": 1.0, "log": True}, "momentum": {"choices": [0, 0.9]}},
            {"use": "optimizers.adam", "lr": {"low": 1e-4, "high": 1e-2, "log": True}},
        ]
    },
    "batch": {"choices": [8, 16]},
}


def score_optimizer(proposal: Proposal) -> float:
    """Score best with Adam at 0.001."""
    section = proposal.values["optimizer"]
    return -abs(np.log10(section["lr"]) + 3) - (section["use"] == "optimizers.sgd")


def test_sections_with_arguments_of_their_own_are_searched_by_tpe() -> None:
    studies = [Study(OPTIMIZERS, 40, 2, MONITOR, seed=0) for _ in range(2)]
    play(studies[0], score_optimizer)
    play(studies[1], score_optimizer, lambda count: count - 1)
    values = [proposal.values for proposal in studies[0].proposals]
    assert values == [proposal.values for proposal in studies[1].proposals], "whichever trial ends first"
    for section in (each["optimizer"] for each in values):
        if section["use"] == "optimizers.sgd":
            assert section.keys() == {"use", "lr", "momentum"}
            assert 0.01 <= section["lr"] <= 1
        else:
            assert section.keys() == {"use", "lr"}
            assert 1e-4 <= section["lr"] <= 1e-2
    kinds = [each["optimizer"]["use"] for each in values]
    assert 3 <= kinds[:10].count("optimizers.adam") <= 7, "both are tried"
    assert kinds[20:].count("optimizers.adam") >= 15, "TPE turns to the better one"
    late = [np.log10(each["optimizer"]["lr"]) for each in values[20:] if each["optimizer"]["use"] == "optimizers.adam"]
    assert np.mean(np.abs(np.array(late) + 3)) < 0.35, "and to its better rates; 0.5 by chance"


def test_starting_points_come_first_and_the_sampler_fills_what_they_leave_out() -> None:
    start = [{"optimizer": {"use": "optimizers.adam", "lr": 0.002}, "batch": 8}, {"batch": 16}]
    study = Study(OPTIMIZERS, 6, 1, MONITOR, seed=0, start=start)
    play(study, score_optimizer)
    assert study.values[0] == start[0]
    assert study.values[1]["batch"] == 16
    assert study.values[1]["optimizer"]["use"] in ("optimizers.sgd", "optimizers.adam")


def test_more_samples_propose_the_same_first_trials() -> None:
    few, many = (Study(SPACE, samples, 2, MONITOR, 5, rungs=4) for samples in (7, 12))
    for study in (few, many):
        play(study, lambda proposal: 1 - abs(np.log10(proposal.values["lr"]) + 1))
    assert many.values[:7] == few.values


def test_a_grid_proposes_each_combination_once_with_all_rungs() -> None:
    study = GridStudy({"a": {"choices": [1, 2]}, "b": {"choices": ["x"]}}, rungs=3)
    proposals = [study.propose(), study.propose()]
    assert [(each.number, each.values, each.target_rungs) for each in proposals if each] == [
        (0, {"a": 1, "b": "x"}, 3),
        (1, {"a": 2, "b": "x"}, 3),
    ]
    assert study.finished
    assert study.propose() is None
