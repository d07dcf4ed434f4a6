"""Machine use is compared with MLflow's own monitors, whose names its pages expect."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

from components.runs import journal, system_metrics
from components.runs.journal import Journal


def test_readings_equal_those_of_mlflow() -> None:
    monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    sent = psutil.net_io_counters()
    values = system_metrics.read_machine_use()
    for monitor in monitors:
        monitor.collect_metrics()
    expected = {name: value for monitor in monitors for name, value in monitor.aggregate_metrics().items()}
    assert list(values) == list(expected)
    boot = {"network_receive_megabytes": sent.bytes_recv / 1e6, "network_transmit_megabytes": sent.bytes_sent / 1e6}
    for name, value in expected.items():
        if name != "cpu_utilization_percentage":  # which changes between the two readings
            assert values[name] == pytest.approx(value + boot.get(name, 0), rel=0.02, abs=1), name


def test_a_block_is_recorded_from_its_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_metrics, "INTERVAL", 0.1)
    file = tmp_path / journal.STAGE_LOG
    with system_metrics.record_machine_use(Journal(file)):
        until = time.monotonic() + 30
        while not (points := journal.read_records(file)) and time.monotonic() < until:
            pass
    assert points[0].payload["step"] == 1
    values = points[0].payload["values"]
    assert all(name.startswith("system/") for name in values)
    assert 0 < values["system/cpu_utilization_percentage"] <= 100
    assert 0 <= values["system/network_receive_megabytes"] < 1000  # not since boot
