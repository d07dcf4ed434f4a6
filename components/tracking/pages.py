"""Find the addresses of MLflow's pages that show the runs, the curves and the comparisons of an experiment."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterable
from typing import Any

from . import server

PARENT = "mlflow.parentRunId"
FITS = "all fits"  # title of the page of fits that belong to no pipeline


def find_pages(experiment: str, base: str, families: Iterable[str] = ()) -> dict[str, str]:
    """Return {title: address} of pages at the tracker's address `base`, since its front page does not show runs.

    families: further experiments, whose fits belong to no pipeline. The titles of their pages begin with their name;
    experiments without such a fit are left out.
    """
    client = server.make_client(server.tracking_uri())
    addresses = _experiment_pages(client, experiment, base) or {"MLflow": base}
    for family in families:
        pages = _experiment_pages(client, family, base)
        if FITS in pages:
            addresses |= {f"{family}: {title}": address for title, address in pages.items()}
    return addresses


def _experiment_pages(client: Any, name: str, base: str) -> dict[str, str]:
    """Return {title: address}; none if there is no such experiment.

    The page of a comparison shows two fits per arm, or the newest fit per system; another one shows the trials of the
    newest search.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return {}
    id = experiment.experiment_id
    # Sorted by name, since MLflow folds child runs away if they are sorted by time.
    page = f"{base}/#/experiments/{id}/runs?orderByKey=tags.%60mlflow.runName%60&orderByAsc=true"

    def list_address(kind: str, mode: str) -> str:
        return f"{page}&compareRunsMode={mode}&searchFilter={_quote(_kind_filter(kind))}"

    def comparison_address(runs: list[Any]) -> str:
        ids = _quote(json.dumps([run.info.run_id for run in runs]))
        return f"{base}/#/compare-runs?runs={ids}&experiments={_quote(json.dumps([id]))}"

    fits = _newest_groups(client, id, "fit")
    trials = _newest_groups(client, id, "trial")
    without_pipeline = any(PARENT not in run.data.tags for runs in fits.values() for run in runs)
    if without_pipeline:
        addresses = {FITS: list_address("fit", "TABLE")}
    else:
        addresses = {"all pipelines": list_address("pipeline", "TABLE")}
    addresses["curves of all fits"] = list_address("fit", "CHART")
    compared = [run for runs in fits.values() for run in (runs[:1] if without_pipeline else runs[-2:])]
    if len(compared) > 1:
        addresses["fits compared"] = comparison_address(compared)
    searches = {f"search, {group}": comparison_address(runs) for group, runs in trials.items() if len(runs) > 1}
    return addresses | searches


def _newest_groups(client: Any, experiment: str, kind: str) -> dict[str, list[Any]]:
    """Return {group: runs, newest first} of the runs of a kind that have the same parent as the newest one.

    A run without a group forms the group of its own name.
    """
    runs = client.search_runs([experiment], _kind_filter(kind), order_by=["start_time DESC"], max_results=100)
    groups: dict[str, list[Any]] = {}
    for run in runs:
        if run.data.tags.get(PARENT) == runs[0].data.tags.get(PARENT):
            groups.setdefault(run.data.tags.get("trainyard.group", run.info.run_name), []).append(run)
    return groups


def _kind_filter(kind: str) -> str:
    return f"tags.\"trainyard.stage\" = '{kind}'"


def _quote(text: str) -> str:
    return urllib.parse.quote(text, safe="")
