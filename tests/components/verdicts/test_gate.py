"""Check the gate against counted binomials, enumerated permutations and simulated error rates."""

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
    """Return a challenger and a champion, by the numbers of examples that only one, both or neither gets right."""
    challenger = np.array([1] * won + [0] * lost + [1] * both + [0] * neither)
    champion = np.array([0] * won + [1] * lost + [1] * both + [0] * neither)
    return Candidate(challenger, np.where(challenger, 0, 1)), Candidate(champion, np.where(champion, 0, 1))


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_binomial_tail(won: int, lost: int) -> None:
    total = won + lost
    tail = sum(comb(total, k) for k in range(won, total + 1)) / 2**total
    assert p_value(np.array([1.0] * won + [-1.0] * lost + [0.0] * 7)) == pytest.approx(tail, rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(-30, 30), min_size=2, max_size=7))
def test_other_outcomes_use_the_exact_permutation_test(numbers: list[int]) -> None:
    difference = np.array(numbers) / 7 + 0.01
    means = [np.mean(difference * signs) for signs in product((1, -1), repeat=len(difference))]
    tail = np.mean(np.array(means) >= difference.mean() - 1e-12)
    assert p_value(difference) == pytest.approx(tail, abs=1e-9)


def test_a_clear_lead_is_promoted_with_its_evidence() -> None:
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
def test_a_lead_within_chance_is_not_promoted(won: int, lost: int) -> None:
    assert not judge_challenger(Gate(), *paired(won, lost)).promote


def test_not_worse_promotes_a_model_of_equal_quality() -> None:
    gate = Gate(rule="not_worse", margin=0.05)
    assert judge_challenger(gate, *paired(3, 3, both=500)).promote
    worse = judge_challenger(gate, *paired(3, 4, both=500))
    assert not worse.promote
    assert worse.reasons[2].endswith("is negative")
    assert judge_challenger(gate, *paired(3, 3, both=500)).reasons[2].endswith("is not negative")
    assert not judge_challenger(gate, *paired(30, 30, both=20)).promote, "it may be worse by more than the margin"


def test_the_first_model_is_promoted_if_its_guards_hold() -> None:
    first, _ = paired(60, 10)
    assert judge_challenger(Gate(), first).promote
    assert not judge_challenger(Gate(least=0.99), first).promote


@pytest.mark.parametrize(
    ("gate", "reason"),
    [
        ({"latency_ms": 5}, "latency (ms) 7, at most 5"),
        ({"megabytes": 1}, "size (MB) 2, at most 1"),
        ({"class_floor": 0.9}, "class 'b' 0.5, at least 0.9"),
        ({"least": 0.95}, "accuracy 0.9123, at least 0.95"),
    ],
)
def test_each_guard_can_reject_a_better_model(gate: dict, reason: str) -> None:
    truth = np.array([0] * 110 + [1] * 4)
    challenger = Candidate(np.ones(114), truth.copy(), 7, 2)
    challenger.predicted[[110, 111]] = 0
    challenger.outcomes[[110, 111, *range(8)]] = 0
    champion = Candidate(np.zeros(114), 1 - truth)
    assert judge_challenger(Gate(), challenger, champion, truth, ["a", "b"]).promote
    verdict = judge_challenger(Gate(**gate), challenger, champion, truth, ["a", "b"])
    assert not verdict.promote
    assert any(reason in text and "fails" in text for text in verdict.reasons)


# ------------------------------------------------------------------------------------------------ at the edge


def test_the_defaults_are_those_that_are_documented() -> None:
    assert Gate() == Gate("better", level=0.95, margin=0.01, draws=2000, examples=30)
    assert (Gate().least, Gate().class_floor, Gate().latency_ms, Gate().megabytes) == (None,) * 4


@pytest.mark.parametrize(("level", "promotes"), [(0.75, True), (0.7500001, False)])
def test_a_p_value_of_exactly_one_minus_the_level_is_enough(level: float, promotes: bool) -> None:
    """Two examples won and none lost have p = 1/4."""
    assert p_value(np.array([1.0, 1.0])) == 0.25
    assert judge_challenger(Gate(level=level), *paired(2, 0, both=200)).promote is promotes


def test_better_needs_a_positive_lead_whatever_the_level() -> None:
    """One won and one lost have p = 3/4, which is within 1 - 0.25."""
    gate = Gate(level=0.25, margin=0.5)
    assert p_value(np.array([1.0, -1.0])) == 0.75
    verdict = judge_challenger(gate, *paired(1, 1))
    assert not verdict.promote
    assert "chance may explain the lead" in verdict.reasons[2]
    assert judge_challenger(gate, *paired(2, 1)).promote


@pytest.mark.parametrize(("margin", "promotes"), [(0.0, False), (1e-9, True)])
def test_an_interval_that_ends_at_the_margin_is_not_above_it(margin: float, promotes: bool) -> None:
    """The lead of two equal models is 0, and so is each end of its interval."""
    verdict = judge_challenger(Gate(rule="not_worse", margin=margin), *paired(0, 0))
    assert (verdict.low, verdict.high, verdict.gain) == (0, 0, 0)
    assert verdict.promote is promotes


@pytest.mark.parametrize("rule", ["better", "not_worse"])
def test_the_interval_must_lie_above_the_margin_under_both_rules(rule: str) -> None:
    """The lead of 59 against 41 examples is significant (one-sided p 0.044), but its interval (95 %) begins below 0."""
    models = paired(59, 41, both=20)
    low = judge_challenger(Gate(), *models).low
    assert low < 0
    for margin, promotes in ((-low, False), (np.nextafter(-low, 1), True)):
        assert judge_challenger(Gate(rule=rule, margin=margin), *models).promote is promotes


@pytest.mark.parametrize(
    ("guard", "limit", "worse"),
    [("least", 0.75, 1), ("class_floor", 0.5, 1), ("latency_ms", 7.0, 0), ("megabytes", 2.0, 0)],
)
def test_a_guard_holds_at_its_limit_and_fails_beyond_it(guard: str, limit: float, worse: float) -> None:
    truth = np.array([0, 0, 1, 1])
    model = Candidate(np.array([1.0, 1, 1, 0]), np.array([0, 0, 1, 0]), latency_ms=7.0, megabytes=2.0)
    assert judge_challenger(Gate(**{guard: limit}), model, None, truth, ["a", "b"]).promote
    verdict = judge_challenger(Gate(**{guard: np.nextafter(limit, worse)}), model, None, truth, ["a", "b"])
    assert not verdict.promote
    assert sum("fails" in reason for reason in verdict.reasons) == 1


def test_the_first_models_reasons_name_its_guards() -> None:
    assert judge_challenger(Gate(), paired(1, 1)[0]).reasons[0].endswith("becomes the champion")
    assert judge_challenger(Gate(least=0.1), paired(1, 1)[0]).reasons[0].endswith("if its guards hold")


def test_classes_without_examples_or_a_champions_labels_have_no_figures() -> None:
    truth = np.array([0, 0, 2])
    model = Candidate(np.array([1.0, 0, 1]), np.array([0, 1, 2]))
    (first, last) = judge_challenger(Gate(), model, Candidate(np.ones(3)), truth, ["a", "b", "c"]).classes
    assert first == {"class": "a", "examples": 2, "challenger": 0.5}
    assert last == {"class": "c", "examples": 1, "challenger": 1.0}


def test_different_or_missing_examples_are_refused() -> None:
    with pytest.raises(Refusal, match="the same examples"):
        judge_challenger(Gate(), Candidate(np.ones(3)), Candidate(np.ones(4)))
    with pytest.raises(Refusal, match="no held-out example"):
        judge_challenger(Gate(), Candidate(np.ones(0)))


@pytest.mark.parametrize(("predicted", "truth"), [(None, np.zeros(3, int)), (np.zeros(3, int), None)])
def test_a_class_floor_without_labels_is_refused(predicted, truth) -> None:
    challenger = Candidate(np.ones(3), predicted)
    assert judge_challenger(Gate(), challenger, None, truth, ["a"]).promote
    with pytest.raises(Refusal, match=r"^retrain.gate.class_floor: .* leave it out$"):
        judge_challenger(Gate(class_floor=0.9), challenger, None, truth, ["a"])


def equal_models(random: np.random.Generator, examples: int, drop: float = 0.0) -> tuple[Candidate, Candidate]:
    """Return two models that are right with the same probability on every example, the challenger's lower by `drop`."""
    chance = random.beta(8, 0.8, examples)
    challenger = random.random(examples) < chance - drop
    champion = random.random(examples) < chance
    return Candidate(challenger), Candidate(champion)


def test_equal_models_are_promoted_no_more_often_than_the_level_allows() -> None:
    """Run 200 gates per level, with an allowance of three standard deviations for so few."""
    random = np.random.default_rng(1)
    pairs = [equal_models(random, 800) for _ in range(200)]
    for level in (0.8, 0.95):
        wins = sum(judge_challenger(Gate(level=level, draws=300), *pair).promote for pair in pairs)
        assert wins <= 200 * (1 - level) + 3 * np.sqrt(200 * level * (1 - level))
        assert wins >= 1, "some models must pass, or the test proves nothing"


def test_not_worse_rarely_promotes_a_model_that_is_worse_by_the_margin() -> None:
    random = np.random.default_rng(2)
    gate = Gate(rule="not_worse", level=0.9, margin=0.03, draws=300)
    wins = sum(judge_challenger(gate, *equal_models(random, 800, drop=0.03)).promote for _ in range(200))
    assert wins <= 200 * 0.05 + 3 * np.sqrt(200 * 0.05 * 0.95)


def test_a_better_model_is_usually_promoted() -> None:
    random = np.random.default_rng(3)
    wins = sum(
        judge_challenger(Gate(draws=300), *reversed(equal_models(random, 1700, drop=0.03))).promote for _ in range(50)
    )
    assert wins >= 40
