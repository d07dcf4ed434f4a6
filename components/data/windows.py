"""Windows of a table of numbers over time: what came before, and what comes next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..errors import Refusal, pluralize
from ..storage.store import Column


def window_columns(window: int, columns: int, horizon: int, targets: int) -> dict[str, Column]:
    """Return the columns of the rows that `cut_windows` yields."""
    return {
        "x": Column("float32", (window, columns)),
        "y": Column("float32", (horizon, targets)),
        "last": Column("float32", (targets,)),
        "time": Column("int64"),
    }


def count_windows(rows: int, window: int, horizon: int, stride: int) -> int:
    """Return the number of windows of a split of so many rows; 0 if it is too short for one."""
    return max(0, rows - window - horizon + stride) // stride


def cut_windows(
    values: np.ndarray, targets: Sequence[int], window: int, horizon: int, stride: int, first: int, windows: range
) -> Iterator[dict[str, Any]]:
    """Yield the windows of values float32 [rows, columns]: x [window, columns], y [horizon, targets], last, time.

    targets: the columns to predict; `last` [targets] holds their last values in x. first: the number of the first row
    in the whole series; `time` is that of the first value to predict. windows: the numbers of the windows to yield.
    """
    for number in windows:
        start = number * stride
        end = start + window
        yield {
            "x": values[start:end],
            "y": np.ascontiguousarray(values[end : end + horizon][:, list(targets)]),
            "last": values[end - 1, list(targets)],
            "time": first + end,
        }


def check_lengths(lengths: dict[str, int], window: int, horizon: int) -> None:
    """Refuse a split that is shorter than a window and what comes next."""
    for name, length in lengths.items():
        if length < window + horizon:
            rows = pluralize(length, "row is", "rows are")
            raise Refusal(
                f"{name}: {rows} too few for window: {window} and horizon: {horizon}; lower them, or give"
                " this split a greater share"
            )
