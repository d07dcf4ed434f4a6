"""Compare an original with its run in a copy: bytes where hardware and software are equal, otherwise scores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pipelines.commands.verification.original import Outcome
from pipelines.stage.provenance import PACKAGES, SETTINGS

ENVIRONMENT = ("platform", "version.python", *(f"version.{name}" for name in PACKAGES))
HARDWARE = ("machine", *(f"setting.{name}" for name in SETTINGS))  # tags; equal bytes need equal ones
CHOICES = ("fit.compile",)  # tags that some runs have: what a trial decided (training/compilation.py)
SAME, CLOSE, DIFFERENT = "the same", "close", "not the same"


@dataclass(frozen=True)
class Comparison:
    """The verdict about both outcomes.

    rows: {name: (then, now)} of data, weights and metrics. different: the names of rows that are not equal.
    environment: {tag: (then, now)} of what differs in hardware, threads and software.
    """

    verdict: str
    rows: dict[str, tuple[Any, Any]]
    different: list[str]
    environment: dict[str, tuple[str, str]]
    tolerance: float


def compare(
    then: Outcome, now: Outcome, then_tags: dict[str, str], now_tags: dict[str, str], tolerance: float
) -> Comparison:
    """Compare both outcomes; the tags describe their environments.

    The verdict is SAME if all is equal. It is CLOSE if the environments differ, or the original's is not recorded, the
    data are equal, and each metric differs by at most `tolerance`, or that share of its size if it is above 1. A metric
    that only one of them has is different.
    """
    rows: dict[str, tuple[Any, Any]] = {"data": (then.data, now.data), "weights": (then.weights, now.weights)}
    names = dict.fromkeys([*now.metrics, *then.metrics])
    rows |= {name: (then.metrics.get(name), now.metrics.get(name)) for name in names}
    different = [name for name, (old, new) in rows.items() if not _are_equal(old, new)]
    unlike = {
        tag: (then_tags.get(tag, "not recorded"), now_tags.get(tag, "not recorded"))
        for tag in (*HARDWARE, *ENVIRONMENT)
        if tag not in then_tags or then_tags[tag] != now_tags.get(tag)
    }
    unlike |= {
        tag: (then_tags.get(tag, "not tried"), now_tags.get(tag, "not tried"))
        for tag in CHOICES
        if then_tags.get(tag) != now_tags.get(tag)
    }
    metrics = [values for name, values in rows.items() if name not in ("data", "weights")]
    verdict = DIFFERENT
    if not different:
        verdict = SAME
    elif unlike and "data" not in different and all(_is_close(old, new, tolerance) for old, new in metrics):
        verdict = CLOSE
    return Comparison(verdict, rows, different, unlike, tolerance)


def _are_equal(old: Any, new: Any) -> bool:
    """Return whether both are equal; a score that is NaN in both counts as equal."""
    return bool(old == new) or (old != old and new != new)


def _is_close(old: Any, new: Any, tolerance: float) -> bool:
    if _are_equal(old, new):
        return True
    if not isinstance(old, int | float) or not isinstance(new, int | float):
        return False
    return math.isclose(old, new, rel_tol=0, abs_tol=tolerance * max(1.0, abs(old)))


def print_comparison(comparison: Comparison) -> None:
    """Print both outcomes, how the environments differ, and the verdict."""
    print(f"\n{'':<24} {'then':<14} now")
    for name, (old, new) in comparison.rows.items():
        mark = "DIFFERENT" if name in comparison.different else ""
        print(f"{name:<24} {format_value(old):<14} {format_value(new):<14} {mark}".rstrip())
    for tag, (old, new) in comparison.environment.items():
        print(f"{tag.removeprefix('version.').removeprefix('setting.')}: {old} then, {new} now")
    if comparison.verdict == CLOSE:
        print(
            f"close: other bytes, as other hardware, threads or software make them, and each metric within"
            f" {comparison.tolerance:g}"
        )
    else:
        print(comparison.verdict)


def format_value(value: Any) -> str:
    """Return a number with six significant digits, or the first twelve characters of a digest."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)[:12]
