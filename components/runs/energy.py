"""Measure the energy that this machine takes: GPUs by NVML, processors by RAPL, where their counters can be read."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ..processes import background_thread

POWERCAP = Path("/sys/class/powercap")
INTERVAL = 60.0  # seconds between two readings: a processor's counter starts again after about an hour
Counters = dict[str, tuple[float, float]]  # counter -> (joules, joules at which it starts again; 0: never)


@dataclass
class Energy:
    """The energy since the first reading. `joules` has no entry for a kind whose counters cannot be read."""

    joules: dict[str, float] = field(default_factory=dict)  # "gpu", "cpu"
    last: Counters = field(default_factory=dict)

    def add(self, counters: Counters) -> None:
        """Add what the counters have gained since they were last read."""
        for name, (now, limit) in counters.items():
            before = self.last.get(name, (now, limit))[0]
            gain = now - before if now >= before else now - before + limit
            kind = name.partition(":")[0]
            self.joules[kind] = self.joules.get(kind, 0.0) + max(0.0, gain)
        self.last |= counters

    @property
    def watt_hours(self) -> dict[str, float]:
        """Return {"gpu" or "cpu": watt-hours} of what was measured."""
        return {kind: joules / 3600 for kind, joules in self.joules.items()}


@contextmanager
def measure_energy() -> Iterator[Energy]:
    """Yield the energy that this machine takes while the block runs; it is complete after the block."""
    energy = Energy()
    energy.add(read_counters())
    with background_thread(partial(_follow, energy)):
        yield energy
        energy.add(read_counters())


def _follow(energy: Energy, ended: threading.Event) -> None:
    while not ended.wait(INTERVAL):
        energy.add(read_counters())


def read_counters() -> Counters:
    """Return the counters of this machine that can be read now."""
    return read_gpus() | read_processors()


def read_gpus() -> Counters:
    """Return the energy counter of each GPU since its driver was loaded; older GPUs have none."""
    import pynvml

    counters: Counters = {}
    try:
        pynvml.nvmlInit()
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            counters[f"gpu:{index}"] = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000, 0.0
    except pynvml.NVMLError:
        return {}
    return counters


def read_processors(folder: Path = POWERCAP) -> Counters:
    """Return the energy counter of each processor package; only root may read them on most systems."""
    counters: Counters = {}
    for package in sorted(folder.glob("intel-rapl:*")):
        if package.name.count(":") != 1:
            continue  # a part of a package
        try:
            joules = int((package / "energy_uj").read_text()) / 1e6
            limit = int((package / "max_energy_range_uj").read_text()) / 1e6
        except (OSError, ValueError):
            return {}
        counters[f"cpu:{package.name}"] = joules, limit
    return counters
