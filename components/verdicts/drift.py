"""Are new data still like those the champion was trained on? Asked before training, of the training split.

A profile counts, for whole-number summaries of each picture, how often each value occurs, and the labels: counts add up
the same however the pictures are shared out, and a few kilobytes tell of any number of them. It travels inside the
statistics of an exported model, so the champion brings along what it was trained on.

Two measures compare profiles, each with the chance of as much in unchanged data, as small samples differ, too:

KS  the greatest distance of the two distribution functions (Kolmogorov, Smirnov; p as scipy's asymptotic one)
PSI population stability index, the sum over bins of (q - p) log(q / p), over the champion's tenths or its classes;
    without drift, PSI * n m / (n + m) is chi-squared with bins - 1 degrees of freedom (Yurdakul 2018)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..recipes.ranges import Count, Fraction, Open, Positive
from ..storage.profile import SUMMARIES

TENTHS = 10

Counts = Mapping[str, int]  # value, as JSON's keys are texts -> how often


@dataclass(frozen=True)
class Limits:
    """What is asked of new data. Drift is refused where it is greater than its limit and chance explains it badly."""

    rows: Count = 20  # training examples, at least
    class_share: Fraction = 0.01  # of the rarest class, at least
    psi: Positive = 0.25
    ks: Open = 0.2
    chance: Open = 0.01


@dataclass(frozen=True)
class Finding:
    check: str
    fine: bool
    text: str


# ------------------------------------------------------------------------------------------------ measures


def ks_test(old: Counts, new: Counts) -> tuple[float, float]:
    """(greatest distance of the distribution functions, its p-value)."""
    from scipy.stats import distributions

    a, b, _ = _aligned(old, new)
    distance = float(np.abs(np.cumsum(a) / a.sum() - np.cumsum(b) / b.sum()).max())
    n, m = sorted((int(a.sum()), int(b.sum())), reverse=True)
    return distance, float(distributions.kstwo.sf(distance, round(n * m / (n + m))))


def psi_test(old: Counts, new: Counts, bins: int | None = None) -> tuple[float, float]:
    """(index, p-value), over every value by itself, or over up to `bins` bins equally full of the old ones.

    An empty bin counts as half an example, or the index would be infinite.
    """
    from scipy.stats import chi2

    a, b, values = _aligned(old, new)
    if bins is not None:
        share = np.cumsum(a) / a.sum()
        edges = np.unique([values[np.searchsorted(share, k / bins)] for k in range(1, bins)])
        places = np.searchsorted(edges, values, side="left")  # a bin holds values up to its edge
        a, b = (np.bincount(places, counts, minlength=len(edges) + 1) for counts in (a, b))
        used = a + b > 0
        a, b = a[used], b[used]
    n, m = a.sum(), b.sum()
    p, q = np.maximum(a, 0.5) / n, np.maximum(b, 0.5) / m
    index = float(((q - p) * np.log(q / p)).sum())
    return index, float(chi2.sf(index * n * m / (n + m), max(1, len(a) - 1)))


def _aligned(old: Counts, new: Counts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts of both at all values that either has, and the values, ascending."""
    values = sorted({int(value) for value in (*old, *new)})
    counts = [np.array([given.get(str(value), 0) for value in values], dtype=np.float64) for given in (old, new)]
    return counts[0], counts[1], np.array(values)


# ------------------------------------------------------------------------------------------------ the checks


def check_data(
    limits: Limits, manifest: dict[str, Any], profile: dict[str, Counts] | None, known: dict[str, Any] | None
) -> list[Finding]:
    """Of prepared data: manifest, and profile of their training split; known: the champion's record, or None."""
    return [
        *_amounts(limits, manifest),
        *(_schema(manifest, known) if known is not None else ()),
        *_drift(limits, profile, (known or {}).get("statistics", {}).get("profile")),
    ]


def _amounts(limits: Limits, manifest: dict[str, Any]) -> Iterator[Finding]:
    train = manifest["splits"]["train"]
    yield Finding(
        "rows", train["rows"] >= limits.rows, f"{train['rows']:,} training examples, at least {limits.rows:,}"
    )
    counts = train.get("class_counts")
    if counts:
        rarest = min(counts, key=lambda name: counts[name])
        share = counts[rarest] / max(1, sum(counts.values()))
        text = f"class '{rarest}' has {share:.2%} of the training examples, at least {limits.class_share:.2%}"
        yield Finding("class balance", share >= limits.class_share, text)


def _schema(manifest: dict[str, Any], known: dict[str, Any]) -> Iterator[Finding]:
    new = {name: list(column["shape"]) for name, column in manifest["columns"].items()}
    old = {name: list(shape) for name, shape in known["columns"].items()}
    wrong = [f"{n} {old.get(n, 'absent')} -> {new.get(n, 'absent')}" for n in old | new if old.get(n) != new.get(n)]
    yield Finding("columns", not wrong, f"changed: {', '.join(wrong)}" if wrong else "as the champion knows them")
    before, now = list(known["classes"]), list(manifest["classes"])
    if before == now:
        yield Finding("classes", True, f"the champion's {len(now)}")
    else:
        moved = [*(f"+{c}" for c in now if c not in before), *(f"-{c}" for c in before if c not in now)]
        text = (
            f"changed ({', '.join(moved) or 'their order'}): no comparison is possible; train, then trainyard promote"
        )
        yield Finding("classes", False, text)


def _drift(limits: Limits, new: dict[str, Counts] | None, old: dict[str, Counts] | None) -> Iterator[Finding]:
    if not new or not old:
        yield Finding("drift", True, "not compared: there is no champion that knows its training data")
        return
    for name in [*SUMMARIES, "label"]:
        if not old.get(name) or not new.get(name):
            continue
        measured = {"psi": psi_test(old[name], new[name], None if name == "label" else TENTHS)}
        if name != "label":
            measured["ks"] = ks_test(old[name], new[name])
        for measure, (value, p) in measured.items():
            limit = getattr(limits, measure)
            fine = value <= limit or p >= limits.chance
            yield Finding(f"{name} {measure}", fine, f"{value:.3f}, at most {limit:g} (p {p:.2g})")
