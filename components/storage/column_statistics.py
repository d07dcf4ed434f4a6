"""Statistics of the training split that tasks without pictures need: class counts, mean and deviation of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from .store import Split

BLOCK = 4096  # rows in memory at once


def measure_columns(split: Split, rows: np.ndarray | None = None) -> dict[str, Any]:
    """Return {"labels": {label: count}, "moments": {column: {"mean": [C], "std": [C]}}}, each where there is any.

    Moments are of columns of floating-point numbers of fixed shape [..., C], over all but the last dimension; a plain
    number has one channel. The deviation of a constant is given as 1, so that all can be divided by it.
    rows: None for all.
    """
    rows = np.arange(len(split)) if rows is None else rows
    statistics: dict[str, Any] = {}
    column = split.columns.get("label")
    if column is not None and not column.shape:
        values, counts = np.unique(split.take(rows, ["label"])["label"], return_counts=True)
        statistics["labels"] = {str(value): int(count) for value, count in zip(values, counts, strict=True)}
    moments = {
        name: _measure_numbers(split, rows, name)
        for name, column in split.columns.items()
        if column.has_fixed_shape and column.dtype.startswith("float")
    }
    return statistics | ({"moments": moments} if moments else {})


def _measure_numbers(split: Split, rows: np.ndarray, name: str) -> dict[str, list[float]]:
    """Return mean and standard deviation of each channel, in two passes over the rows."""
    channels = (split.columns[name].inner_shape or (1,))[-1]

    def blocks() -> Any:
        for start in range(0, len(rows), BLOCK):
            yield split.take(rows[start : start + BLOCK], [name])[name].reshape(-1, channels).astype(np.float64)

    count = sum(len(block) for block in blocks())
    mean = sum(block.sum(0) for block in blocks()) / max(1, count)
    squares = sum(np.square(block - mean).sum(0) for block in blocks())
    std = np.sqrt(squares / max(1, count))
    std[std <= 1e-12 * np.abs(mean)] = 1.0  # a constant, whose mean is rounded
    return {"mean": np.atleast_1d(mean).tolist(), "std": std.tolist()}
