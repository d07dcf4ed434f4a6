"""Moments of columns of numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.storage.column_statistics import measure_columns
from components.storage.dataset import prepare_dataset
from components.storage.store import Column, Store

VALUES = np.random.default_rng(0).normal(3, 2, 5000)


class Numbers:
    """Rows of a number that varies, one that is the same, one that differs in its ninth digit, and zero."""

    name, licence, source, classes = "numbers", "CC0", "drawn here", ("a",)

    def __init__(self) -> None:
        self.columns = {"x": Column("float64", (4,)), "label": Column("int64")}

    def parts(self) -> dict[str, int]:
        return {"train": 1}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        for row, value in enumerate(VALUES):
            yield {"x": np.array([value, 0.1, 1e9 + row % 2, 0.0]), "label": 0}


def test_a_constant_has_deviation_one_although_its_mean_is_rounded(tmp_path: Path) -> None:
    prepare_dataset(Numbers(), tmp_path)
    moments = measure_columns(Store(tmp_path).split("train"))["moments"]["x"]
    assert np.full(5000, 0.1).std() > 0, "the case does not arise"
    assert moments["mean"] == pytest.approx([VALUES.mean(), 0.1, 1e9 + 0.5, 0.0])
    assert moments["std"] == pytest.approx([VALUES.std(), 1.0, 0.5, 1.0])
