"""Addresses of MLflow's pages that open on what one wants to see."""

from __future__ import annotations

import json
import urllib.parse
from typing import Any

from components import tracker


def links(experiment: str, base: str) -> dict[str, str]:
    """Title -> address of MLflow pages at `base` that open on the runs (its front page shows another view).

    The runs' page folds children away unless it is sorted by something else than time: so we sort by name.
    """
    client = tracker.client(tracker.uri())
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return {"MLflow": base}
    page = f"{base}/#/experiments/{found.experiment_id}/runs?orderByKey=tags.%60mlflow.runName%60&orderByAsc=true"

    def listed(kind: str, mode: str) -> str:
        return f"{page}&compareRunsMode={mode}&searchFilter={_quoted(_of(kind))}"

    def compared(runs: list[Any]) -> str:
        ids = _quoted(json.dumps([run.info.run_id for run in runs]))
        return f"{base}/#/compare-runs?runs={ids}&experiments={_quoted(json.dumps([found.experiment_id]))}"

    addresses = {"all pipelines": listed("pipeline", "TABLE"), "curves of all fits": listed("fit", "CHART")}
    for kind, title in (("fit", "fits compared"), ("trial", "search")):
        groups: dict[str, list[Any]] = {}
        newest = client.search_runs([found.experiment_id], _of(kind), order_by=["start_time DESC"], max_results=100)
        for run in newest:
            if run.data.tags["mlflow.parentRunId"] == newest[0].data.tags["mlflow.parentRunId"]:
                groups.setdefault(run.data.tags["trainyard.group"], []).append(run)
        if kind == "fit" and len(newest) > 1:
            addresses[title] = compared([run for runs in groups.values() for run in runs[-2:]])
        elif kind == "trial":
            addresses |= {f"{title}, {group}": compared(runs) for group, runs in groups.items() if len(runs) > 1}
    return addresses


def _of(kind: str) -> str:
    return f"tags.\"trainyard.stage\" = '{kind}'"


def _quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="")
