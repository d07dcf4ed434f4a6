"""Convert a journal's records to the points of MLflow's metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ..runs.journal import Record
from ..training import metric_names

Point = tuple[str, int, float, int]  # name, step, value and time of a metric


def to_mlflow_metrics(record: Record) -> list[Any]:
    """Return a record's MLflow metrics by step; values of a complete epoch are repeated by epoch, below `epoch/`."""
    from mlflow.entities import Metric

    line = record.payload
    if record.kind == "progress":
        return [Metric(metric_names.EXAMPLES_PER_SECOND, line["speed"], record.time, line["step"])]
    if record.kind != "metric":
        return []
    metrics = []
    for name, value in line["values"].items():
        if not metric_names.is_over_epoch(name):
            metrics.append(Metric(name, value, record.time, line["step"]))
        if by_epoch := metric_names.against_epoch(name):
            metrics.append(Metric(by_epoch, value, record.time, round(line["epoch"])))
    if "epoch" in line:
        metrics.append(Metric(metric_names.EPOCH, line["epoch"], record.time, line["step"]))
    return metrics


def metric_points(records: Iterable[Record]) -> set[Point]:
    """Return the points that the records become at MLflow."""
    return {to_point(metric) for record in records for metric in to_mlflow_metrics(record)}


def to_point(metric: Any) -> Point:
    """Return what identifies one of MLflow's metrics; all NaN are one, so that points with them are equal."""
    value = math.nan if math.isnan(metric.value) else metric.value
    return metric.key, metric.step, value, metric.timestamp
