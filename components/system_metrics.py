"""What the machine does meanwhile: processor, memory, disk, network, GPU, by MLflow's own monitors."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, suppress
from functools import partial

from components.background import beside
from components.journal import Journal

SAMPLE, SAMPLES = 1.0, 3  # seconds between two looks at the machine; so many are averaged into one point


def sampled(journal: Journal) -> AbstractContextManager[None]:
    """Notes processor, memory, disk, network and GPU use of this machine while the block runs."""
    return beside(partial(_sample, journal))


def _sample(journal: Journal, ended: threading.Event) -> None:
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    with suppress(Exception):  # no GPU, or no driver
        monitors.append(GPUMonitor())
    number = 0
    while not ended.wait(SAMPLE):
        number += 1
        for monitor in monitors:
            monitor.collect_metrics()
        if number % SAMPLES == 0:
            values = {f"system/{name}": value for m in monitors for name, value in m.aggregate_metrics().items()}
            journal.write("metric", step=number // SAMPLES, values=values)
            for monitor in monitors:
                monitor.clear_metrics()
