"""What the machine does meanwhile: processor, memory, disk, network, GPU, by the names that MLflow's pages know.

MLflow's own monitors read the same from psutil, but importing them takes 3 s of a stage's processor time.
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

SAMPLE, SAMPLES = 1.0, 3  # seconds between two looks at the machine; so many are averaged into one point


def record_machine_use(journal: Journal) -> AbstractContextManager[None]:
    """Notes processor, memory, disk, network and GPU use of this machine while the block runs."""
    return background_thread(partial(_sample, journal))


def read_machine_use() -> dict[str, float]:
    """Percentages, and megabytes (10^6 bytes); the processor's since the last reading, the network's since boot."""
    memory, disk, network = psutil.virtual_memory(), psutil.disk_usage(os.sep), psutil.net_io_counters()
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


def _sample(journal: Journal, ended: threading.Event) -> None:
    first, gpus, number = read_machine_use(), _gpus(), 0
    while True:
        readings: list[dict[str, float]] = []
        while len(readings) < SAMPLES:
            if ended.wait(SAMPLE):
                return
            readings.append(read_machine_use())
            if gpus:
                gpus.collect_metrics()
        values = {name: sum(one[name] for one in readings) / SAMPLES for name in first}
        values |= {name: value - first[name] for name, value in values.items() if name.startswith("network_")}
        if gpus:
            values |= gpus.aggregate_metrics()
            gpus.clear_metrics()
        number += 1
        rounded = {f"system/{name}": round(value, 1) for name, value in values.items()}
        journal.write("metric", step=number, values=rounded)


def _gpus() -> GPUMonitor | None:
    """MLflow's monitor, where there is a GPU and a driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

        return GPUMonitor()
    except Exception:  # whatever a driver says must not reach the work
        return None
