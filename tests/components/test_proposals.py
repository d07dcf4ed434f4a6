"""Proposals depend on what has ended alone; ASHA stops as Ray's does; a wrong space is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components import proposals
from components.refusal import Refusal

SPACE = {"lr": {"low": 0.01, "high": 1.0, "log": True}, "batch": {"choices": [8, 16]}}
MONITOR = ("accuracy", "max")


@settings(deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=12), st.integers(2, 4), st.booleans())
def test_stopping_agrees_with_rays_own_asha(scores: list[float], reduction: int, maximise: bool) -> None:
    from ray.tune.schedulers.async_hyperband import _Bracket

    bracket = _Bracket(min_t=1, max_t=100, reduction_factor=reduction, s=0)
    for number, score in enumerate(scores):
        signed = score if maximise else -score
        theirs = bracket.on_result(_Named(number), 1, signed) != "STOP"
        assert proposals.goes_on(score, scores[:number], 1, reduction, maximise) == theirs


class _Named:
    def __init__(self, number: int) -> None:
        self.trial_id = str(number)


def test_only_milestones_stop() -> None:
    going = [proposals.goes_on(0.0, [1.0, 1.0, 1.0], rung, 3) for rung in range(1, 11)]
    assert [rung for rung, on in enumerate(going, 1) if not on] == [1, 3, 9]


@pytest.mark.parametrize("parallel", [1, 2, 3])
@settings(deadline=None, max_examples=30)
@given(st.randoms(use_true_random=False))
def test_proposals_do_not_depend_on_who_ends_first(parallel: int, random) -> None:
    """However the running trials finish, the same values are proposed in the same order."""

    def made(pick) -> list[dict]:
        study = proposals.Study(SPACE, 8, parallel, MONITOR, seed=1)
        running, proposed = [], []
        while len(proposed) < 8 or running:
            while one := study.propose():
                proposed.append(one[1])
                running.append(one)
            assert len(running) <= parallel
            number, values = running.pop(pick(len(running)))
            study.end(number, 1 - abs(np.log10(values["lr"]) + 1))
        return proposed

    assert made(random.randrange) == made(lambda count: 0)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-0.5, 0.5), min_size=9, max_size=9), st.integers(0, 99))
def test_a_fold_that_is_harder_for_all_changes_no_proposal(harder: list[float], seed: int) -> None:
    """Where a fold moves every trial's score alike, the same values are tried, and stopped, as without it."""

    def made(moves: list[float]) -> list[tuple[float, int]]:
        study = proposals.Study(SPACE, 16, 1, MONITOR, seed, rungs=9)
        tried = []
        while proposed := study.propose():
            number, values = proposed
            true, rung, score = -abs(np.log10(values["lr"]) + 1), 0, 0.0
            while rung < 9:
                rung += 1
                score = round(float(true + np.mean(moves[:rung])), 9)
                if not study.keeps(number, rung, score):
                    break
            study.end(number, score)
            tried.append((values["lr"], rung))
        return tried

    assert made([round(move, 3) for move in harder]) == made([0.0] * 9)


def test_who_goes_on_is_decided_by_trials_that_have_ended() -> None:
    """At the second rung all go on; a trial that was lost, or tells its rungs again, is no measure for others."""
    study = proposals.Study(SPACE, 9, 2, MONITOR, seed=1, rungs=9)
    assert [study.keeps(0, rung, 0.5) for rung in range(1, 10)] == [True] * 9
    assert study.keeps(1, 1, 0.1), "trial 0 may still be running"
    assert not study.keeps(2, 1, 0.3)
    study.end(0, None)
    assert study.keeps(3, 1, 0.2), "better than 1, and 0 is lost"
    assert study.keeps(3, 2, 0.0)
    study.again(1)
    assert study.keeps(4, 1, 0.3), "as good as 2, the only one left to compare with"


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0, 1), min_size=12, max_size=12), st.integers(1, 12), st.integers(1, 3), st.integers(1, 5))
def test_whatever_trials_score_one_comes_to_the_end(
    scores: list[float], samples: int, parallel: int, rungs: int
) -> None:
    study = proposals.Study(SPACE, samples, parallel, MONITOR, seed=0, rungs=rungs)
    came: dict[int, int] = {}
    running: list[int] = []
    while len(came) < samples:
        if proposed := study.propose():
            running.append(proposed[0])
            continue
        number = running.pop(0)
        going = (rung for rung in range(1, rungs + 1) if not study.keeps(number, rung, scores[number]) or rung == rungs)
        came[number] = next(going)
        study.end(number, scores[number])
    assert rungs in came.values()


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
        ({"fit.batch": 4}, "needs {low, high}"),
        ({"task.optimizer": {"choices": [{"use": "optimizers.sgd"}]}}, "by search.sampler: grid alone"),
    ],
)
def test_a_wrong_space_is_refused(space: dict, says: str) -> None:
    with pytest.raises(Refusal) as refused:
        proposals.check_space(space, {"fit.batch": 16, "task.optimizer.use": "optimizers.adam"})
    assert says in str(refused.value)


def test_a_grid_is_of_choices_alone_and_may_try_whole_sections() -> None:
    known = {"fit.batch": 16, "task.optimizer.use": "optimizers.adam"}
    sections = [{"use": "optimizers.sgd"}, {"use": "optimizers.adam"}]
    proposals.check_space({"task.optimizer": {"choices": sections}}, known, sampler="grid")
    with pytest.raises(Refusal, match="a grid needs"):
        proposals.check_space({"fit.batch": {"low": 1, "high": 9}}, known, sampler="grid")
    assert proposals.grid({"a": {"choices": [1, 2]}, "b": {"choices": ["x", "y"]}}) == [
        {"a": 1, "b": "x"},
        {"a": 1, "b": "y"},
        {"a": 2, "b": "x"},
        {"a": 2, "b": "y"},
    ]
