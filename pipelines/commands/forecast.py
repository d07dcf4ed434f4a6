"""Forecast what stages will take from the bills of their earlier runs on this kind of machine."""

from __future__ import annotations

import os
from collections.abc import Sequence

from components.errors import pluralize
from pipelines.stage.bill import Bill, complete_runs, describe_machine, read_bills

NEVER = "never run here"
NEWEST = 10  # runs from which a range is made


def describe_forecast(stages: Sequence[str], settings: dict[str, str]) -> list[str]:
    """Return a line per stage, and one with the sum of all; a single line if none of them ever ran here.

    stages: names in bills. settings: digests of the values with which they would run; runs with the same values are
    preferred, and where there are none, the line says so.
    """
    machine = describe_machine()
    is_cluster = "RAY_ADDRESS" in os.environ
    runs = [bill for bill in complete_runs(read_bills()) if bill.machine == machine]
    runs = [bill for bill in runs if is_cluster or bill.machines == 1]
    lines = [f"forecast from earlier runs on {machine}:"]
    low, high = [0.0] * 3, [0.0] * 3
    width = max(map(len, stages))
    missing = []
    for name in stages:
        alike = [bill for bill in runs if bill.name == name]
        same = [bill for bill in alike if bill.settings == settings.get(name)]
        chosen = (same or alike)[-NEWEST:]
        if not chosen:
            missing.append(name)
            lines.append(f"  {name:{width}}  {NEVER}")
            continue
        ranges = [find_range(chosen, field) for field in ("seconds", "worker_hours", "gpu_hours")]
        low = [total + bounds[0] for total, bounds in zip(low, ranges, strict=True)]
        high = [total + bounds[1] for total, bounds in zip(high, ranges, strict=True)]
        note = pluralize(len(chosen), "run") + ("" if same else ", with other values")
        lines.append(f"  {name:{width}}  {format_ranges(ranges)}  ({note})")
    if len(missing) == len(stages):
        return [f"forecast: none, as none of these stages has run on {machine}"]
    total = format_ranges(list(zip(low, high, strict=True)))
    return [*lines, f"  {'in all':{width}}  {total}" + (f", without {', '.join(missing)}" if missing else "")]


def find_range(bills: Sequence[Bill], field: str) -> tuple[float, float]:
    """Return the smallest and the largest value of a field."""
    values = [float(getattr(bill, field)) for bill in bills]
    return min(values), max(values)


def format_ranges(ranges: Sequence[tuple[float, float]]) -> str:
    """Return the ranges of seconds, worker-hours and GPU-hours as a text."""
    units = (("s", 0), ("worker-hours", 3), ("GPU-hours", 3))
    texts = []
    for (low, high), (unit, digits) in zip(ranges, units, strict=True):
        ends = dict.fromkeys(f"{value:,.{digits}f}" for value in (low, high))
        texts.append(f"{' to '.join(ends)} {unit}")
    return "  ".join(texts)
