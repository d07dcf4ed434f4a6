"""Describe tables of numbers over time."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data.series_table import read_time
from ..data.table import Table
from ..errors import pluralize
from .findings import Findings, Sample
from .picture_layouts import propose_fit


def describe_series(table: Table, numbers: list[str], time: str | None) -> Findings:
    """Return the findings about numbers over time."""
    findings = Findings("a table of numbers over time (data.series_table.SeriesTable)")
    gaps = {name: sum(not value for value in table.columns[name]) for name in numbers}
    findings.facts = [
        f"{pluralize(table.rows, 'row')}, {pluralize(len(numbers), 'column')} of numbers: {', '.join(numbers[:12])}"
    ]
    findings.odd = table.notes + table.faults
    findings.odd += [f"column '{name}': empty in {pluralize(count, 'row')}" for name, count in gaps.items() if count]
    span = max(1, table.rows // 50)
    window, horizon = min(96, 2 * span), min(24, max(1, span // 2))
    data: dict[str, Any] = {"use": "data.series_table.SeriesTable", "file": str(table.file), "columns": numbers}
    data |= {"window": window, "horizon": horizon}
    findings.reasons = [f"window: {window} and horizon: {horizon} rows are a guess; set what you want to predict"]
    if time is not None:
        data["time"] = time
        values = [read_time(value) for value in table.columns[time]]
        steps = np.diff([value if value is not None else np.nan for value in values])
        unordered = np.flatnonzero(~(steps > 0)) + 1
        findings.odd += [f"{table.locate(int(row))}: its time is not later than the row before" for row in unordered]
        usual = float(np.median(steps))
        odd_steps = int(np.sum(~np.isclose(steps, usual)))
        if odd_steps:
            differences = pluralize(odd_steps, "step in time differs", "steps in time differ")
            findings.odd.append(f"{differences} from the usual one of {usual:g} s")
    if any(gaps.values()):
        data["missing"] = "previous"
        findings.reasons.append("missing: previous, because some values are empty")
    findings.recipe = {
        "data": data,
        "task": {
            "use": "tasks.window_forecast.WindowForecast",
            "model": {"use": "models.window_linear.WindowLinear", "difference": True},
            "optimizer": {"use": "optimizers.adam", "lr": 1e-3},
        },
        "fit": propose_fit(table.rows, 64 if table.rows >= 640 else 16, 1000),
    }
    findings.samples = [
        Sample(f"{name}: {', '.join(str(v) for v in table.columns[name][:8])} ...") for name in numbers[:12]
    ]
    return findings
