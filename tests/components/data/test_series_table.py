"""A user's own table over time: windows within each split, in order, and faults by row."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.data.dialect import is_finite_number
from components.data.series_table import SeriesTable, read_time
from components.errors import Refusal
from components.storage.dataset import prepare_dataset
from components.storage.store import Store


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = [f"2024-01-{1 + i // 24:02d} {i % 24:02d}:00:00,{i},{1000 - i},note {i}" for i in range(200)]
    (tmp_path / "a.csv").write_text("\n".join(["date,up,down,note", *rows]))
    return tmp_path / "a.csv"


def build(table: Path, **arguments: Any) -> SeriesTable:
    return SeriesTable(str(table), **{"time": "date", "window": 8, "horizon": 3, **arguments})


def test_windows_match_a_loop_and_no_window_reaches_over_a_cut(table: Path, tmp_path: Path) -> None:
    data = build(table, targets=["down"], columns=["up", "down"], stride=2)
    manifest = prepare_dataset(data, tmp_path / "out")
    assert manifest["classes"] == ["down"]
    start = 0
    for split, length in (("train", 130), ("validation", 30), ("test", 40)):
        rows = Store(tmp_path / "out").split(split)
        batch = rows.take(np.arange(len(rows)))
        expected = [
            (list(range(first, first + 8)), [1000 - first - 8 - step for step in range(3)], first + 8)
            for first in range(start, start + length - 8 - 3 + 1, 2)
        ]
        assert [x[:, 0].tolist() for x in batch["x"]] == [window for window, _, _ in expected]
        assert [y[:, 0].tolist() for y in batch["y"]] == [after for _, after, _ in expected]
        assert batch["time"].tolist() == [time for _, _, time in expected]
        assert np.array_equal(batch["last"][:, 0], batch["x"][:, -1, 1])
        start += length


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
def test_times_without_a_zone_do_not_depend_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        start = datetime(2023, 3, 25)  # Berlin's clocks skip 02:00 on the next day
        rows = [f"{start + timedelta(hours=i)},{i}" for i in range(200)]
        (tmp_path / "hours.csv").write_text("\n".join(["date,up", *rows]))
        assert build(tmp_path / "hours.csv").table.rows == 200
        assert read_time("2023-03-26 02:00") == read_time("2023-03-26T02:00Z") == 1679796000
        assert read_time("2023-03-26 02:00") == read_time("2023-03-26 04:00+02:00")
    finally:
        monkeypatch.undo()
        time.tzset()


def test_columns_of_numbers_are_found(table: Path) -> None:
    assert build(table).names == ["up", "down"]
    assert build(table).classes == ["up", "down"]


def test_empty_values_are_refused_or_counted(table: Path, tmp_path: Path) -> None:
    table.write_text(table.read_text().replace(",57,", ",,").replace(",58,", ",,"))
    with pytest.raises(Refusal, match=r"column 'up' is empty in 2 rows, first in row 59; fill it, .*missing: previous"):
        prepare_dataset(build(table), tmp_path / "out")
    data = build(table, missing="previous")
    manifest = prepare_dataset(data, tmp_path / "out")
    assert data.read_numbers("up", 56, 60).tolist() == [56, 56, 56, 59]
    assert "2 empty values replaced by those above them (missing: previous)" in manifest["review"]


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (lambda t: t.replace(",57,", ",many,"), {"columns": ["up"]}, "column 'up' holds no number in row 59: 'many'"),
        (lambda t: t.replace(",57,", ",5,7,"), {}, "row 59: 5 values, not 4"),
        (lambda t: t.replace("2024-01-03 09", "2023-01-03 09"), {}, "time: row 59 .* is not later than the row before"),
        (lambda t: t.replace("2024-01-03 09:00:00", "noon"), {}, "time: row 59 has 'noon', neither a number nor"),
        (lambda t: t, {"window": 60}, "validation: 30 rows are too few for window: 60 and horizon: 3"),
        (lambda t: t, {"targets": ["up"], "columns": ["down"]}, "targets: 'up' is not one of columns"),
        (lambda t: t, {"columns": ["sideways"]}, "columns: .*no column 'sideways'"),
        (lambda t: t, {"targets": ["upp"]}, r"targets: .*no column 'upp' \(did you mean 'up'\?\)"),
        (lambda t: t, {"targets": ["date"]}, "targets: column 'date' is the time or does not hold"),
    ],
)
def test_faults_are_named(table: Path, change: Any, arguments: dict[str, Any], message: str) -> None:
    table.write_text(change(table.read_text()))
    with pytest.raises(Refusal, match=message):
        assert build(table, **arguments).parts()


@pytest.mark.parametrize("value", ["1e39", "-1e39", "inf", "nan"])
def test_a_number_must_fit_into_float32(value: str) -> None:
    assert not is_finite_number(value)
    assert is_finite_number("3.4e38")


def test_a_number_that_would_become_infinite_is_refused(table: Path) -> None:
    table.write_text(table.read_text().replace(",5,", ",1e39,"))
    with pytest.raises(Refusal, match=r"column 'up' holds no number in row 7: '1e39'"):
        build(table, columns=["up"]).parts()
