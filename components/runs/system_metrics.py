"""Record the use of processor, memory, disk, network and GPU under the names that MLflow's pages expect.

MLflow's own monitors read the same values from psutil, but importing them takes 3 s of processor time per stage.
"""

from __future__ import annotations

import os
import threading
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING

import psutil

from ..processes import background_thread
from .journal import Journal

if TYPE_CHECKING:
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

INTERVAL = 1.0  # seconds between two readings
READINGS = 3  # averaged into one point


def record_machine_use(journal: Journal) -> AbstractContextManager[None]:
    """Write the use of this machine to the journal while the block runs."""
    return background_thread(partial(_record, journal))


def read_machine_use() -> dict[str, float]:
    """Return percentages and megabytes (10^6 bytes).

    The processor's percentage covers the time since the last reading, network traffic the time since boot.
    """
    memory = psutil.virtual_memory()
    disk = psutil.disk_usage(os.sep)
    network = psutil.net_io_counters()
    return {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": memory.used / 1e6,
        "system_memory_usage_percentage": memory.used / memory.total * 100,
        "disk_usage_percentage": disk.percent,
        "disk_usage_megabytes": disk.used / 1e6,
        "disk_available_megabytes": disk.free / 1e6,
        "network_receive_megabytes": network.bytes_recv / 1e6,
        "network_transmit_megabytes": network.bytes_sent / 1e6,
    }


def _record(journal: Journal, ended: threading.Event) -> None:
    first = read_machine_use()
    gpu_monitor = _make_gpu_monitor()
    step = 0
    while True:
        readings: list[dict[str, float]] = []
        while len(readings) < READINGS:
            if ended.wait(INTERVAL):
                return
            readings.append(read_machine_use())
            if gpu_monitor:
                gpu_monitor.collect_metrics()
        values = {name: sum(reading[name] for reading in readings) / READINGS for name in first}
        values |= {name: value - first[name] for name, value in values.items() if name.startswith("network_")}
        if gpu_monitor:
            values |= gpu_monitor.aggregate_metrics()
            gpu_monitor.clear_metrics()
        step += 1
        rounded = {f"system/{name}": round(value, 1) for name, value in values.items()}
        journal.write("metric", step=step, values=rounded)


def _make_gpu_monitor() -> GPUMonitor | None:
    """Return MLflow's monitor of GPUs, or None if there is no GPU or no driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

        return GPUMonitor()
    except Exception:  # no error of a driver may reach the work
        return None
