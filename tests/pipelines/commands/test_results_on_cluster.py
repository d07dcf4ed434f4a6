"""Measure a recipe whose search needs Ray, on a real cluster: `trainyard results --measure`."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from components.cluster import prestart
from pipelines.commands.results import page
from pipelines.commands.results.searches import BESIDE_SCORES
from tests.workspace import clone

RECIPE = "pipelines/studies/search.yaml"
CHANGES = {
    "data.labels": 100,
    "data.validation": 100,
    "data.size": 16,
    "fit.epochs": 2,
    "tune.epochs": 2,
    "tune.search.samples": 3,
}
pytestmark = [pytest.mark.cluster(lane=1), pytest.mark.slow]  # test_results.py measures searches without Ray


def test_a_search_on_a_cluster_is_recorded_like_its_stage(cluster_of_two: str, tmp_path: Path) -> None:
    """Compare the record with the files of the stage, which has run on the cluster that RAY_ADDRESS names."""
    workspace = clone(tmp_path / "yard", {RECIPE: CHANGES})
    assert workspace.environment["RAY_ADDRESS"] == cluster_of_two
    workspace.environment[prestart.KEPT_CLUSTER] = cluster_of_two
    output = workspace.trainyard("results", "--measure", RECIPE, "--seeds", "1")
    assert "written: docs/records/studies/search.json" in output
    record = workspace.json("docs/records/studies/search.json")
    metrics = workspace.json("results/studies/search/metrics.json")
    assert {"accuracy_low", "accuracy_high"} <= metrics.keys()
    assert record["scores"].keys() == metrics.keys() - {"accuracy_low", "accuracy_high"}
    assert record["scores"]["accuracy"] == [pytest.approx(metrics["accuracy"], rel=1e-5)]
    assert record["baselines"].keys() == {"untrained", "constant"}
    with (workspace.folder / "results/studies/search/tables/search.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(record["trials"]) == len(rows) == CHANGES["tune.search.samples"]
    for trial, row in zip(record["trials"], rows, strict=True):
        assert not trial.keys() & BESIDE_SCORES
        assert trial["task.optimizer.lr"] == pytest.approx(float(row["task.optimizer.lr"]), rel=1e-5)
        assert trial["accuracy"] == pytest.approx(float(row["accuracy"]), rel=1e-5)
    (seconds,) = record["seconds"]
    assert seconds >= sum(float(row["seconds"]) for row in rows) * 0.99
    table = (workspace.folder / "RESULTS.md").read_text().partition("<b>search</b>: accuracy of its 3 trials")[2]
    lines = [line for line in table.partition("</details>")[0].splitlines() if line.startswith("| ")][1:]
    for trial, line in zip(record["trials"], lines, strict=True):
        assert f" {page.format_value(trial['accuracy'])} " in line
