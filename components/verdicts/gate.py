"""Challenger against champion on the same held-out examples: does the served model change hands?

rule "better" (the default): the challenger wins where chance explains its lead badly (p <= 1 - `level`, one-sided)
    and the interval of its lead lies above -`margin`. Of challengers no better than the champion at most 1 - `level`
    take over; their lead on these examples is above zero whenever they do.
rule "not_worse": it wins where its lead is not negative and the interval lies above -`margin`: newer data take over
    at equal quality. Of challengers worse by `margin` or more at most (1 - `level`) / 2 take over; of equal ones up
    to half.

p is of McNemar's test in its exact form (Psychometrika 1947): of the examples that only one model gets right, the
challenger's share is as likely as a coin's. Outcomes that are not all 0 or 1 get the paired permutation test. The
interval is the paired bootstrap's. Both hold for one look at the examples (docs/decisions.md: many nights, same ones).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ..errors import Refusal
from ..metrics.comparison import gain
from ..recipes.ranges import Count, Fraction, Open, Positive


@dataclass(frozen=True)
class Gate:
    """What is asked of a challenger. Guards (None: not asked) hold for the first model, too, which has no champion."""

    rule: Literal["better", "not_worse"] = "better"
    level: Open = 0.95
    margin: Fraction = 0.01  # in units of the monitored score
    draws: Count = 2000  # of the bootstrap
    least: Fraction | None = None  # the monitored score, at least
    class_floor: Fraction | None = None  # accuracy of the worst class, at least
    latency_ms: Positive | None = None  # of one example, median, on the machine that compares
    megabytes: Positive | None = None  # of the weights


@dataclass(frozen=True)
class Candidate:
    """One model on the held-out examples."""

    outcomes: np.ndarray  # [N], what the monitored score is the mean of; greater is better
    predicted: np.ndarray | None = None  # [N] labels
    latency_ms: float = 0.0
    megabytes: float = 0.0


@dataclass(frozen=True)
class Verdict:
    promote: bool
    reasons: tuple[str, ...]
    score: float  # the challenger's
    champion_score: float | None = None
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    won: tuple[int, ...] = ()  # rows that the challenger alone gets right (where outcomes are 0 and 1)
    lost: tuple[int, ...] = ()  # rows that the champion alone gets right
    classes: tuple[dict[str, Any], ...] = field(default=())  # {class, examples, challenger, champion, won, lost}


def judge_challenger(
    gate: Gate,
    challenger: Candidate,
    champion: Candidate | None = None,
    truth: np.ndarray | None = None,
    classes: Sequence[str] = (),
    score: str = "accuracy",
) -> Verdict:
    """truth: labels [N] of the same examples, for what is said by class; score: the monitored one's name."""
    ours = np.asarray(challenger.outcomes, dtype=np.float64)
    if len(ours) == 0:
        raise Refusal("promotion: no held-out example to compare on; prepare a test split")
    if champion is not None and len(champion.outcomes) != len(ours):
        raise Refusal(f"promotion: {len(ours)} outcomes against {len(champion.outcomes)}; use the same examples")
    table = tuple(_by_class(challenger, champion, truth, classes)) if truth is not None else ()
    if gate.class_floor is not None and not table:
        raise Refusal("retrain.gate.class_floor: no label is predicted, so that no class has an accuracy; leave it out")
    guards = list(_guards(gate, challenger, float(ours.mean()), table, score))
    failed = tuple(text for fine, text in guards if not fine)
    passed = tuple(text for fine, text in guards if fine)
    if champion is None:
        first = "there is no champion yet: the first model takes its place" + (" if its guards hold" if guards else "")
        return Verdict(not failed, (first, *failed, *passed), float(ours.mean()), classes=table)
    theirs = np.asarray(champion.outcomes, dtype=np.float64)
    found = gain(ours[None], theirs[None], gate.level, gate.draws)
    lead, low, high = found["gain"], found["gain_low"], found["gain_high"]
    p = p_value(ours - theirs)
    won, lost = (tuple(np.flatnonzero(d > 0).tolist()) for d in (ours - theirs, theirs - ours))
    better, why = _rule(gate, lead, low, p)
    head = (
        f"{score} {ours.mean():.4f} against the champion's {theirs.mean():.4f}: {lead:+.4f} "
        f"[{low:+.4f}, {high:+.4f}] at {gate.level:.0%}; {len(won)} examples won, {len(lost)} lost, p {p:.3g}"
    )
    reasons = (head, *why, *failed, *passed)
    means = float(ours.mean()), float(theirs.mean())
    return Verdict(better and not failed, reasons, *means, lead, low, high, p, won, lost, table)


def p_value(difference: np.ndarray, draws: int = 9999, seed: int = 0) -> float:
    """How often a challenger that is no better leads by as much: difference [N] of paired outcomes, one-sided."""
    from scipy.stats import binomtest, permutation_test

    moved = difference[difference != 0]
    if len(moved) == 0:
        return 1.0
    if np.all(np.abs(moved) == 1):
        return float(binomtest(int((moved > 0).sum()), len(moved), 0.5, alternative="greater").pvalue)
    found = permutation_test(
        (difference, np.zeros_like(difference)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=draws,
        batch=max(1, 1_000_000 // len(difference)),
        alternative="greater",
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def _rule(gate: Gate, lead: float, low: float, p: float) -> tuple[bool, tuple[str, ...]]:
    near = low > -gate.margin
    text = f"the lead's lower end {low:+.4f} is {'above' if near else 'not above'} the margin {-gate.margin:+g}"
    if gate.rule == "not_worse":
        ahead = f"the lead {lead:+.4f} is {'not negative' if lead >= 0 else 'negative'}"
        return near and lead >= 0, (text, ahead)
    sure = p <= 1 - gate.level and lead > 0
    chance = f"the one-sided p {p:.3g} is {'within' if p <= 1 - gate.level else 'above'} {1 - gate.level:.3g}"
    return near and sure, (text, f"{chance}: a better model" if sure else f"{chance}: chance may explain the lead")


def _guards(
    gate: Gate, challenger: Candidate, mean: float, table: Sequence[dict[str, Any]], score: str
) -> Iterator[tuple[bool, str]]:
    """(whether it holds, in words) for each guard that is asked."""
    measured: list[tuple[str, float, float | None, bool]] = [
        (score, mean, gate.least, True),
        ("latency (ms)", challenger.latency_ms, gate.latency_ms, False),
        ("size (MB)", challenger.megabytes, gate.megabytes, False),
    ]
    if table:
        worst = min(table, key=lambda row: row["challenger"])
        measured.append((f"accuracy of class '{worst['class']}'", worst["challenger"], gate.class_floor, True))
    for name, value, limit, least in measured:
        if limit is not None:
            fine = value >= limit if least else value <= limit
            state, end = "holds" if fine else "fails", "least" if least else "most"
            yield fine, f"guard {state}: {name} {value:.4g}, at {end} {limit:g}"


def _by_class(
    challenger: Candidate, champion: Candidate | None, truth: np.ndarray, classes: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Of each class with examples: accuracies, and examples won and lost."""
    if challenger.predicted is None:
        return
    ours = challenger.predicted == truth
    theirs = champion.predicted == truth if champion is not None and champion.predicted is not None else None
    for label, name in enumerate(classes):
        rows = truth == label
        if rows.any():
            row = {"class": name, "examples": int(rows.sum()), "challenger": float(ours[rows].mean())}
            if theirs is not None:
                row |= {
                    "champion": float(theirs[rows].mean()),
                    "won": int((ours & ~theirs)[rows].sum()),
                    "lost": int((theirs & ~ours)[rows].sum()),
                }
            yield row
