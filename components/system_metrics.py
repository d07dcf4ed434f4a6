"""What the machine does meanwhile: processor, memory, disk, network, GPU, by MLflow's own monitors."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from components.journal import Journal

SAMPLE, SAMPLES = 1.0, 3  # seconds between two looks at the machine; so many are averaged into one point


@contextmanager
def sampled(journal: Journal) -> Iterator[None]:
    """Notes processor, memory, disk, network and GPU use of this machine while the block runs."""
    ended = threading.Event()
    thread = threading.Thread(target=_sample, args=(journal, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _sample(journal: Journal, ended: threading.Event) -> None:
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    with contextlib.suppress(Exception):  # no GPU, or no driver
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
