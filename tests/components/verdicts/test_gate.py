"""The gate against its oracles: the binomial counted, permutations enumerated, error rates simulated."""

from __future__ import annotations

from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.errors import Refusal
from components.verdicts.gate import Candidate, Gate, judge_challenger, p_value


def paired(won: int, lost: int, both: int = 50, neither: int = 5) -> tuple[Candidate, Candidate]:
    """Challenger and champion of two classes, by how many examples each gets right alone, or both, or neither."""
    ours = np.array([1] * won + [0] * lost + [1] * both + [0] * neither)
    theirs = np.array([0] * won + [1] * lost + [1] * both + [0] * neither)
    return Candidate(ours, np.where(ours, 0, 1)), Candidate(theirs, np.where(theirs, 0, 1))


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_tail_of_a_coin(won: int, lost: int) -> None:
    total = won + lost
    tail = sum(comb(total, k) for k in range(won, total + 1)) / 2**total
    assert p_value(np.array([1.0] * won + [-1.0] * lost + [0.0] * 7)) == pytest.approx(tail, rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(-30, 30), min_size=2, max_size=7))
def test_other_outcomes_get_every_sign(numbers: list[int]) -> None:
    difference = np.array(numbers) / 7 + 0.01
    means = [np.mean(difference * signs) for signs in product((1, -1), repeat=len(difference))]
    tail = np.mean(np.array(means) >= difference.mean() - 1e-12)
    assert p_value(difference) == pytest.approx(tail, abs=1e-9)


def test_a_clear_lead_wins_and_says_so() -> None:
    verdict = judge_challenger(Gate(), *paired(won=20, lost=4), truth=np.zeros(79, int), classes=["a"])
    assert verdict.promote
    assert verdict.gain == pytest.approx(16 / 79)
    assert verdict.low < verdict.gain < verdict.high
    assert (verdict.won, verdict.lost) == (tuple(range(20)), tuple(range(20, 24)))
    assert verdict.classes == ({
        "class": "a", "examples": 79, "challenger": 70 / 79, "champion": 54 / 79, "won": 20, "lost": 4
    },)  # fmt: skip
    assert "20 examples won, 4 lost" in verdict.reasons[0]


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (10, 8), (4, 20), (0, 30), (4, 0)])
def test_a_lead_that_chance_explains_keeps_the_champion(won: int, lost: int) -> None:
    assert not judge_challenger(Gate(), *paired(won, lost)).promote


def test_not_worse_lets_newer_data_take_over_at_equal_quality() -> None:
    gate = Gate(rule="not_worse", margin=0.05)
    assert judge_challenger(gate, *paired(3, 3, both=500)).promote
    assert not judge_challenger(gate, *paired(3, 4, both=500)).promote  # a lead below zero
    assert not judge_challenger(gate, *paired(30, 30, both=20)).promote  # may be worse than the margin


def test_the_first_model_takes_the_place_if_its_guards_hold() -> None:
    alone, _ = paired(60, 10)
    assert judge_challenger(Gate(), alone).promote
    assert not judge_challenger(Gate(least=0.99), alone).promote


@pytest.mark.parametrize(
    ("gate", "says"),
    [
        ({"latency_ms": 5}, "latency (ms) 7, at most 5"),
        ({"megabytes": 1}, "size (MB) 2, at most 1"),
        ({"class_floor": 0.9}, "class 'b' 0.5, at least 0.9"),
        ({"least": 0.95}, "accuracy 0.9123, at least 0.95"),
    ],
)
def test_each_guard_can_keep_a_better_model_out(gate: dict, says: str) -> None:
    truth = np.array([0] * 110 + [1] * 4)
    ours = Candidate(np.ones(114), truth.copy(), 7, 2)
    ours.predicted[[110, 111]] = 0
    ours.outcomes[[110, 111, *range(8)]] = 0
    theirs = Candidate(np.zeros(114), 1 - truth)
    assert judge_challenger(Gate(), ours, theirs, truth, ["a", "b"]).promote
    verdict = judge_challenger(Gate(**gate), ours, theirs, truth, ["a", "b"])
    assert not verdict.promote
    assert any(says in reason and "fails" in reason for reason in verdict.reasons)


def test_other_examples_are_refused() -> None:
    with pytest.raises(Refusal, match="the same examples"):
        judge_challenger(Gate(), Candidate(np.ones(3)), Candidate(np.ones(4)))
    with pytest.raises(Refusal, match="no held-out example"):
        judge_challenger(Gate(), Candidate(np.ones(0)))


@pytest.mark.parametrize(("predicted", "truth"), [(None, np.zeros(3, int)), (np.zeros(3, int), None)])
def test_a_floor_for_classes_that_nobody_knows_is_refused(predicted, truth) -> None:
    ours = Candidate(np.ones(3), predicted)
    assert judge_challenger(Gate(), ours, None, truth, ["a"]).promote
    with pytest.raises(Refusal, match=r"^retrain.gate.class_floor: .* leave it out$"):
        judge_challenger(Gate(class_floor=0.9), ours, None, truth, ["a"])


def equal_models(random: np.random.Generator, examples: int, drop: float = 0.0) -> tuple[Candidate, Candidate]:
    """Two models whose chance to be right is the same on every example (the challenger's lower by `drop`)."""
    chance = random.beta(8, 0.8, examples)
    ours, theirs = (random.random(examples) < chance - d for d in (drop, 0.0))
    return Candidate(ours), Candidate(theirs)


def test_equal_models_are_promoted_no_more_often_than_the_level_says() -> None:
    """200 gates a level; the allowance is three standard deviations of so few."""
    random = np.random.default_rng(1)
    pairs = [equal_models(random, 800) for _ in range(200)]
    for level in (0.8, 0.95):
        wins = sum(judge_challenger(Gate(level=level, draws=300), *pair).promote for pair in pairs)
        assert wins <= 200 * (1 - level) + 3 * np.sqrt(200 * level * (1 - level))
        assert wins >= 1, "a gate that nothing passes is no gate"


def test_not_worse_seldom_lets_a_model_pass_that_is_worse_by_the_margin() -> None:
    random = np.random.default_rng(2)
    gate = Gate(rule="not_worse", level=0.9, margin=0.03, draws=300)
    wins = sum(judge_challenger(gate, *equal_models(random, 800, drop=0.03)).promote for _ in range(200))
    assert wins <= 200 * 0.05 + 3 * np.sqrt(200 * 0.05 * 0.95)


def test_a_better_model_gets_through() -> None:
    random = np.random.default_rng(3)
    wins = sum(
        judge_challenger(Gate(draws=300), *reversed(equal_models(random, 1700, drop=0.03))).promote for _ in range(50)
    )
    assert wins >= 40
