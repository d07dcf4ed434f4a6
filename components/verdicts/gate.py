"""Promotion gate: compare a challenger with the champion on the same held-out examples and decide which is served.

rule "better" (the default): promote if chance is an unlikely explanation of the challenger's lead (one-sided
    p <= 1 - `level`) and the interval of the lead lies above -`margin`. At most 1 - `level` of challengers that are no
    better than the champion are promoted, and those only with a positive lead on these examples.
rule "not_worse": promote if the lead is not negative and its interval lies above -`margin`, so that a model trained on
    newer data replaces one of equal quality. At most (1 - `level`) / 2 of challengers that are worse by `margin` or
    more are promoted, and up to half of those that are equally good.

p comes from the exact form of McNemar's test (Psychometrika 1947): among the examples that only one model gets right,
each model is equally likely to be that one. Outcomes other than 0 and 1 use the paired permutation test. The interval
is a paired bootstrap. Both are valid for a single look at the examples (docs/decisions.md covers repeated ones).

Examples that either model was trained on are left out before (see held_out.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ..errors import Refusal, pluralize
from ..metrics.comparison import gain
from ..recipes.ranges import Count, Fraction, Open, Positive

PERMUTATIONS = 9999  # of the paired test


@dataclass(frozen=True)
class Gate:
    """Requirements on a challenger.

    The guards `least`, `class_floor`, `latency_ms` and `megabytes` are skipped if None. They also apply to the first
    model, which has no champion to beat.

    margin: tolerated difference in units of the monitored score. draws: bootstrap samples. least: lower limit of the
    monitored score. class_floor: lower limit of the worst class's accuracy. latency_ms: upper limit of the median
    milliseconds per example on the machine that compares. megabytes: upper limit of the weights' size. examples: lower
    limit of the held-out examples that neither model was trained on; with fewer the gate does not judge.
    """

    rule: Literal["better", "not_worse"] = "better"
    level: Open = 0.95
    margin: Fraction = 0.01
    draws: Count = 2000
    least: Fraction | None = None
    class_floor: Fraction | None = None
    latency_ms: Positive | None = None
    megabytes: Positive | None = None
    examples: Count = 30

    def refuses(self, count: int) -> str | None:
        """Return why `count` examples are too few to judge on, or None if they are enough."""
        if count >= self.examples:
            return None
        return (
            f"the gate does not judge: {count:,} held-out examples remain, at least {self.examples:,} are needed"
            " (retrain.gate.examples); add held-out examples"
        )


@dataclass(frozen=True)
class Candidate:
    """One model's results on the held-out examples.

    outcomes: per-example values [N] whose mean is the monitored score; greater is better. predicted: labels [N].
    latency_ms: median milliseconds per example. megabytes: size of the weights.
    """

    outcomes: np.ndarray
    predicted: np.ndarray | None = None
    latency_ms: float = 0.0
    megabytes: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """The gate's decision with its evidence.

    score: the challenger's. gain, low, high: the challenger's lead and its interval. won, lost: rows on which only the
    challenger, or only the champion, has the greater outcome. classes: {class, examples, challenger, champion, won,
    lost} per class. Without a champion, only `score` and the challenger's part of `classes` are set.
    """

    promote: bool
    reasons: tuple[str, ...]
    score: float
    champion_score: float | None = None
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    won: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()
    classes: tuple[dict[str, Any], ...] = field(default=())


def judge_challenger(
    gate: Gate,
    challenger: Candidate,
    champion: Candidate | None = None,
    truth: np.ndarray | None = None,
    classes: Sequence[str] = (),
    score: str = "accuracy",
) -> Verdict:
    """Return whether the challenger replaces the champion, and why.

    truth: labels [N] of the same examples, for the figures per class. classes: names of the labels. score: name of the
    monitored score, for the reasons. Raises Refusal if there are no examples, if the two models have different numbers
    of them, or if `class_floor` is set and there are no labels.
    """
    challenger_outcomes = np.asarray(challenger.outcomes, dtype=np.float64)
    if len(challenger_outcomes) == 0:
        raise Refusal("promotion: no held-out example to compare on; prepare a test split")
    if champion is not None and len(champion.outcomes) != len(challenger_outcomes):
        raise Refusal(
            f"promotion: {len(challenger_outcomes)} outcomes against {len(champion.outcomes)}; use the same examples"
        )
    table = () if truth is None else tuple(_class_rows(challenger, champion, truth, classes))
    if gate.class_floor is not None and not table:
        raise Refusal("retrain.gate.class_floor: there are no labels to measure accuracy per class; leave it out")
    mean = float(challenger_outcomes.mean())
    guards = list(_check_guards(gate, challenger, mean, table, score))
    failed = tuple(text for holds, text in guards if not holds)
    passed = tuple(text for holds, text in guards if holds)
    if champion is None:
        first = "there is no champion yet: the first model becomes the champion"
        if guards:
            first += " if its guards hold"
        return Verdict(not failed, (first, *failed, *passed), mean, classes=table)

    champion_outcomes = np.asarray(champion.outcomes, dtype=np.float64)
    champion_mean = float(champion_outcomes.mean())
    interval = gain(challenger_outcomes[None], champion_outcomes[None], gate.level, gate.draws)
    lead, low, high = interval["gain"], interval["gain_low"], interval["gain_high"]
    difference = challenger_outcomes - champion_outcomes
    p = p_value(difference)
    won = tuple(np.flatnonzero(difference > 0).tolist())
    lost = tuple(np.flatnonzero(difference < 0).tolist())
    passes, explanation = _apply_rule(gate, lead, low, p)
    summary = (
        f"{score} {mean:.4f} against the champion's {champion_mean:.4f}: {lead:+.4f} "
        f"[{low:+.4f}, {high:+.4f}] at {gate.level:.0%}; "
        f"{pluralize(len(won), 'example')} won, {len(lost):,} lost, p {p:.3g}"
    )
    return Verdict(
        promote=passes and not failed,
        reasons=(summary, *explanation, *failed, *passed),
        score=mean,
        champion_score=champion_mean,
        gain=lead,
        low=low,
        high=high,
        p_value=p,
        won=won,
        lost=lost,
        classes=table,
    )


def p_value(difference: np.ndarray) -> float:
    """Return the one-sided probability of a lead at least this large if the challenger is no better.

    difference: challenger's outcome - champion's outcome per example [N].
    """
    from scipy.stats import binomtest, permutation_test

    unequal = difference[difference != 0]
    if len(unequal) == 0:
        return 1.0
    if np.all(np.abs(unequal) == 1):
        return float(binomtest(int((unequal > 0).sum()), len(unequal), 0.5, alternative="greater").pvalue)
    result = permutation_test(
        (difference, np.zeros_like(difference)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=PERMUTATIONS,
        batch=max(1, 1_000_000 // len(difference)),
        alternative="greater",
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)


def _apply_rule(gate: Gate, lead: float, low: float, p: float) -> tuple[bool, tuple[str, ...]]:
    """Return whether the gate's rule is met, and an explanation in words."""
    within_margin = low > -gate.margin
    above = "above" if within_margin else "not above"
    margin = f"the lower end of the lead's interval, {low:+.4f}, is {above} the margin {-gate.margin:+g}"
    if gate.rule == "not_worse":
        sign = "not negative" if lead >= 0 else "negative"
        return within_margin and lead >= 0, (margin, f"the lead {lead:+.4f} is {sign}")
    significant = p <= 1 - gate.level
    better = significant and lead > 0
    chance = f"the one-sided p {p:.3g} is {'within' if significant else 'above'} {1 - gate.level:.3g}"
    conclusion = "the challenger is better" if better else "chance may explain the lead"
    return within_margin and better, (margin, f"{chance}: {conclusion}")


def _check_guards(
    gate: Gate, challenger: Candidate, mean: float, table: Sequence[dict[str, Any]], score: str
) -> Iterator[tuple[bool, str]]:
    """Yield (whether it holds, description) per guard that is set."""
    guards: list[tuple[str, float, float | None, Literal["least", "most"]]] = [
        (score, mean, gate.least, "least"),
        ("latency (ms)", challenger.latency_ms, gate.latency_ms, "most"),
        ("size (MB)", challenger.megabytes, gate.megabytes, "most"),
    ]
    if table:
        worst = min(table, key=lambda row: row["challenger"])
        guards.append((f"accuracy of class '{worst['class']}'", worst["challenger"], gate.class_floor, "least"))
    for name, value, limit, bound in guards:
        if limit is not None:
            holds = value >= limit if bound == "least" else value <= limit
            state = "holds" if holds else "fails"
            yield holds, f"guard {state}: {name} {value:.4g}, at {bound} {limit:g}"


def _class_rows(
    challenger: Candidate, champion: Candidate | None, truth: np.ndarray, classes: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield accuracies and the numbers of examples won and lost per class that has examples."""
    if challenger.predicted is None:
        return
    challenger_right = challenger.predicted == truth
    champion_right = None
    if champion is not None and champion.predicted is not None:
        champion_right = champion.predicted == truth
    for label, name in enumerate(classes):
        rows = truth == label
        if not rows.any():
            continue
        row = {"class": name, "examples": int(rows.sum()), "challenger": float(challenger_right[rows].mean())}
        if champion_right is not None:
            row |= {
                "champion": float(champion_right[rows].mean()),
                "won": int((challenger_right & ~champion_right)[rows].sum()),
                "lost": int((champion_right & ~challenger_right)[rows].sum()),
            }
        yield row
