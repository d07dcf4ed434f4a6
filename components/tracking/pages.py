"""Addresses of MLflow's pages that open on what one wants to see."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterable
from typing import Any

from . import server

PARENT = "mlflow.parentRunId"
ALONE = "all fits"  # a page of runs that are below no pipeline


def find_pages(experiment: str, base: str, families: Iterable[str] = ()) -> dict[str, str]:
    """Title -> address of MLflow pages at `base` that open on the runs (its front page shows another view).

    families: further experiments, whose fits stand alone; their titles begin with their name. Those without a fit are
    left out.
    """
    client = server.make_client(server.tracking_uri())
    found = _pages(client, experiment, base) or {"MLflow": base}
    for family in families:
        pages = _pages(client, family, base)
        found |= {f"{family}: {title}": address for title, address in pages.items() if ALONE in pages}
    return found


def _pages(client: Any, experiment: str, base: str) -> dict[str, str]:
    """Compared are two fits of each arm, or each system's newest; and the trials of the newest search.

    The runs' page folds children away unless it is sorted by something else than time: so we sort by name.
    """
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return {}
    page = f"{base}/#/experiments/{found.experiment_id}/runs?orderByKey=tags.%60mlflow.runName%60&orderByAsc=true"

    def listed(kind: str, mode: str) -> str:
        return f"{page}&compareRunsMode={mode}&searchFilter={_quoted(_of(kind))}"

    def compared(runs: list[Any]) -> str:
        ids = _quoted(json.dumps([run.info.run_id for run in runs]))
        return f"{base}/#/compare-runs?runs={ids}&experiments={_quoted(json.dumps([found.experiment_id]))}"

    fits, trials = (_newest(client, found.experiment_id, kind) for kind in ("fit", "trial"))
    alone = any(PARENT not in run.data.tags for runs in fits.values() for run in runs)
    addresses = {ALONE: listed("fit", "TABLE")} if alone else {"all pipelines": listed("pipeline", "TABLE")}
    addresses["curves of all fits"] = listed("fit", "CHART")
    chosen = [run for runs in fits.values() for run in (runs[:1] if alone else runs[-2:])]
    if len(chosen) > 1:
        addresses["fits compared"] = compared(chosen)
    return addresses | {f"search, {group}": compared(runs) for group, runs in trials.items() if len(runs) > 1}


def _newest(client: Any, owner: str, kind: str) -> dict[str, list[Any]]:
    """Group -> those of a kind that share the newest one's parent, the newest first; a run that stands alone is of the
    group of its name."""
    runs = client.search_runs([owner], _of(kind), order_by=["start_time DESC"], max_results=100)
    groups: dict[str, list[Any]] = {}
    for run in runs:
        if run.data.tags.get(PARENT) == runs[0].data.tags.get(PARENT):
            groups.setdefault(run.data.tags.get("trainyard.group", run.info.run_name), []).append(run)
    return groups


def _of(kind: str) -> str:
    return f"tags.\"trainyard.stage\" = '{kind}'"


def _quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="")
