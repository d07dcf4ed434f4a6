"""Drift: check, before training, whether new data still resemble the data that the champion was trained on.

Two statistics compare the training splits' profiles (`storage/profile.py`). Small samples differ by chance as well, so
each comes with its p-value: the probability of a value at least this large if nothing has changed.

KS  largest distance between the two distribution functions (Kolmogorov, Smirnov; asymptotic p-value as in scipy)
PSI population stability index: the sum of (q - p) log(q / p) over the deciles of the champion's data, or over classes;
    without drift, PSI * n m / (n + m) is chi-squared with bins - 1 degrees of freedom (Yurdakul 2018)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..recipes.ranges import Count, Fraction, Open, Positive
from ..storage.profile import SUMMARIES
from .caveats import describe_data

DECILES = 10

# Value -> number of occurrences. Values are strings because profiles are stored as JSON.
Counts = Mapping[str, int]


@dataclass(frozen=True)
class Limits:
    """Requirements on new data. Drift fails a check if it exceeds its limit and its p-value is below `chance`.

    rows: lower limit of the training examples. class_share: lower limit of the rarest class's fraction of them.
    psi, ks: upper limits of the two statistics.
    """

    rows: Count = 20
    class_share: Fraction = 0.01
    psi: Positive = 0.25
    ks: Open = 0.2
    chance: Open = 0.01


@dataclass(frozen=True)
class Finding:
    """The result of one check, described in `text`."""

    check: str
    fine: bool
    text: str


# ------------------------------------------------------------------------------------------------ statistics


def ks_test(old: Counts, new: Counts) -> tuple[float, float]:
    """Return the largest distance between the two distribution functions, and its p-value."""
    from scipy.stats import distributions

    old_counts, new_counts, _ = _align_counts(old, new)
    old_cdf = np.cumsum(old_counts) / old_counts.sum()
    new_cdf = np.cumsum(new_counts) / new_counts.sum()
    distance = float(np.abs(old_cdf - new_cdf).max())
    n, m = sorted((int(old_counts.sum()), int(new_counts.sum())), reverse=True)
    return distance, float(distributions.kstwo.sf(distance, round(n * m / (n + m))))


def psi_test(old: Counts, new: Counts, bins: int | None = None) -> tuple[float, float]:
    """Return the population stability index and its p-value.

    bins: number of bins that hold equally many old values; None makes every value a bin of its own. An empty bin
    counts as half an example, because the index would be infinite otherwise.
    """
    from scipy.stats import chi2

    old_counts, new_counts, values = _align_counts(old, new)
    if bins is not None:
        cumulative = np.cumsum(old_counts) / old_counts.sum()
        edges = np.unique([values[np.searchsorted(cumulative, k / bins)] for k in range(1, bins)])
        # A bin contains the values up to and including its edge.
        bin_of_value = np.searchsorted(edges, values, side="left")
        old_counts = np.bincount(bin_of_value, old_counts, minlength=len(edges) + 1)
        new_counts = np.bincount(bin_of_value, new_counts, minlength=len(edges) + 1)
        occupied = old_counts + new_counts > 0
        old_counts = old_counts[occupied]
        new_counts = new_counts[occupied]
    n = old_counts.sum()
    m = new_counts.sum()
    p = np.maximum(old_counts, 0.5) / n
    q = np.maximum(new_counts, 0.5) / m
    index = float(((q - p) * np.log(q / p)).sum())
    return index, float(chi2.sf(index * n * m / (n + m), max(1, len(old_counts) - 1)))


def _align_counts(old: Counts, new: Counts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the counts of both at every value that either contains, and those values in ascending order."""
    values = sorted({int(value) for value in (*old, *new)})
    old_counts = np.array([old.get(str(value), 0) for value in values], dtype=np.float64)
    new_counts = np.array([new.get(str(value), 0) for value in values], dtype=np.float64)
    return old_counts, new_counts, np.array(values)


# ------------------------------------------------------------------------------------------------ checks


def check_data(
    limits: Limits,
    manifest: dict[str, Any],
    profile: dict[str, Counts] | None,
    champion: dict[str, Any] | None,
) -> list[Finding]:
    """Return the findings of all checks on prepared data.

    manifest, profile: of the prepared data and their training split. champion: the record of the champion's exported
    model (model.json), or None if there is no champion.
    """
    findings = list(_check_amounts(limits, manifest))
    champion_profile = None
    if champion is not None:
        findings += _check_schema(manifest, champion)
        champion_profile = champion.get("statistics", {}).get("profile")
    return [*findings, *_check_drift(limits, profile, champion_profile)]


def _check_amounts(limits: Limits, manifest: dict[str, Any]) -> Iterator[Finding]:
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
    for sentence in describe_data(manifest):
        yield Finding("caution", True, sentence)


def _check_schema(manifest: dict[str, Any], champion: dict[str, Any]) -> Iterator[Finding]:
    new = {name: list(column["shape"]) for name, column in manifest["columns"].items()}
    old = {name: list(shape) for name, shape in champion["columns"].items()}
    changes = [
        f"{name} {old.get(name, 'absent')} -> {new.get(name, 'absent')}"
        for name in old | new
        if old.get(name) != new.get(name)
    ]
    text = f"changed: {', '.join(changes)}" if changes else "the same as the champion's"
    yield Finding("columns", not changes, text)
    old_classes = list(champion["classes"])
    new_classes = list(manifest["classes"])
    if old_classes == new_classes:
        yield Finding("classes", True, f"the champion's {len(new_classes)}")
        return
    added = [f"+{name}" for name in new_classes if name not in old_classes]
    removed = [f"-{name}" for name in old_classes if name not in new_classes]
    difference = ", ".join([*added, *removed]) or "their order"
    text = f"changed ({difference}): no comparison is possible; train, then trainyard promote"
    yield Finding("classes", False, text)


def _check_drift(limits: Limits, new: dict[str, Counts] | None, old: dict[str, Counts] | None) -> Iterator[Finding]:
    if not new or not old:
        yield Finding("drift", True, "not compared: there is no champion with a profile of its training data")
        return
    for name in [*SUMMARIES, "label"]:
        if not old.get(name) or not new.get(name):
            continue
        if name == "label":
            results = {"psi": psi_test(old[name], new[name])}
        else:
            results = {"psi": psi_test(old[name], new[name], DECILES), "ks": ks_test(old[name], new[name])}
        for statistic, (value, p) in results.items():
            limit = getattr(limits, statistic)
            fine = value <= limit or p >= limits.chance
            yield Finding(f"{name} {statistic}", fine, f"{value:.3f}, at most {limit:g} (p {p:.2g})")
