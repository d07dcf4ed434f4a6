"""Test the energy counters against hand-made ones: they start again, parts are not counted twice, none is no zero."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.runs import energy
from components.runs.energy import Energy, measure_energy, read_processors


def write_package(folder: Path, name: str, microjoules: int, limit: int = 10_000_000) -> None:
    package = folder / name
    package.mkdir(exist_ok=True)
    (package / "energy_uj").write_text(f"{microjoules}\n")
    (package / "max_energy_range_uj").write_text(f"{limit}\n")


def test_a_counter_that_starts_again_loses_nothing(tmp_path: Path) -> None:
    used = Energy()
    for microjoules in (9_000_000, 9_500_000, 500_000, 3_000_000):
        write_package(tmp_path, "intel-rapl:0", microjoules)
        write_package(tmp_path, "intel-rapl:1", 7_000_000)
        write_package(tmp_path, "intel-rapl:0:0", microjoules)  # a part of the first package
        used.add(read_processors(tmp_path))
    assert used.joules == {"cpu": pytest.approx(0.5 + 1.0 + 2.5)}
    assert used.watt_hours["cpu"] == pytest.approx(4 / 3600)


def test_without_counters_nothing_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_processors(tmp_path) == {}
    monkeypatch.setattr(energy, "read_counters", dict)
    with measure_energy() as used:
        pass
    assert used.watt_hours == {}, "not zero"
