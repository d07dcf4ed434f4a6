"""Keep the bill of every run of a stage or a recipe: seconds, CPU- and GPU-hours, energy; add them up, and price them.

.trainyard/bills.jsonl    one line per attempt, appended when it ends
"""

from __future__ import annotations

import ast
import json
import logging
import operator
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import reduce
from typing import Any

from components.cluster.plan import Holdings
from components.errors import Refusal, Stopped, pluralize
from components.processes import available_cores, processor_name
from components.recipes import recipe
from components.recipes.signature import describe_misfit
from components.runs.energy import measure_energy
from components.runs.journal import Journal
from components.workspace import work_folder

FILE = "bills.jsonl"
PRICES = {"cpu_hour": "NonNegative", "gpu_hour": "NonNegative", "kilowatt_hour": "NonNegative", "currency": "str"}
NOT_MEASURED = "not measured"
SUMMED = ("seconds", "worker_hours", "cpu_hours", "gpu_hours")  # fields of a bill
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bill:
    """The bill of one attempt of a stage, or of a recipe.

    The CPUs and GPUs that its workers hold count for the time of the work, whether they are busy or not; the driver
    holds one CPU. energy: watt-hours of the driver's machine, None if no counter could be read.
    """

    name: str  # of the stage; FAMILY/SYSTEM of a recipe
    run: str  # name of the run's folder: attempts of one run have the same
    settings: str  # digest of the values that decide the result
    machine: str
    machines: int
    status: str  # FINISHED, KILLED or FAILED
    began: float  # in seconds since 1970
    seconds: float
    worker_hours: float = 0.0
    cpu_hours: float = 0.0
    gpu_hours: float = 0.0
    energy: float | None = None

    def __add__(self, other: Bill) -> Bill:
        """Return the bill of both, under the names of the later one; energy is measured if it is in both."""
        energies = (self.energy, other.energy)
        energy = None if None in energies else sum(value for value in energies if value is not None)
        sums = {name: getattr(self, name) + getattr(other, name) for name in SUMMED}
        return Bill(**asdict(other) | sums | {"energy": energy, "began": min(self.began, other.began)})


@dataclass
class Usage:
    """The use of resources by the workers of a stage so far: seconds times workers, CPUs and GPUs."""

    seconds: float = 0.0  # while workers were at work
    worker_seconds: float = 0.0
    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0
    machines: int = 1

    def add(self, seconds: float, held: Holdings) -> None:
        """Add a call of workers that took `seconds`."""
        self.seconds += seconds
        self.worker_seconds += seconds * held.workers
        self.cpu_seconds += seconds * held.cpus
        self.gpu_seconds += seconds * held.gpus
        self.machines = held.machines

    def add_trials(self, seconds: float, trial_seconds: float, share: float, machines: int) -> None:
        """Add a search that took `seconds`, its trials `trial_seconds` on one CPU and `share` of a GPU each."""
        self.seconds += seconds
        self.worker_seconds += trial_seconds
        self.cpu_seconds += trial_seconds
        self.gpu_seconds += trial_seconds * share
        self.machines = machines


def describe_machine() -> str:
    """Return this machine's cores, processor and GPUs, for example "2 CPUs AMD EPYC, 1 NVIDIA H200"."""
    text = f"{pluralize(available_cores(), 'CPU')} {processor_name()}"
    gpus = _gpu_names()
    return f"{text}, {len(gpus)} {gpus[0]}" if gpus else text


def _gpu_names() -> list[str]:
    import pynvml

    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return [str(pynvml.nvmlDeviceGetName(handle)) for handle in handles]
    except pynvml.NVMLError:
        return []


def settings_digest(params: dict[str, Any]) -> str:
    """Return the digest of the values that decide what a stage or a recipe takes: all but names, prices, promotion."""
    return recipe.digest({name: value for name, value in params.items() if name not in ("name", "prices", "retrain")})


@contextmanager
def record_bill(usage: Usage, journal: Journal, began: float, **facts: Any) -> Iterator[None]:
    """Measure the block, then append its bill and write it to the journal, however the block ends.

    began: when the process began, in seconds since 1970. facts: the fields `name`, `run`, `settings` of the bill.
    """
    status = "FAILED"
    try:
        with measure_energy() as energy:
            yield
        status = "FINISHED"
    except (KeyboardInterrupt, Stopped):
        status = "KILLED"
        raise
    finally:
        seconds = time.time() - began
        driver = max(0.0, seconds - usage.seconds)
        bill = Bill(
            **facts,
            machine=describe_machine(),
            machines=usage.machines,
            status=status,
            began=began,
            seconds=seconds,
            worker_hours=usage.worker_seconds / 3600,
            cpu_hours=(usage.cpu_seconds + driver) / 3600,
            gpu_hours=usage.gpu_seconds / 3600,
            energy=sum(energy.watt_hours.values()) if energy.joules else None,
        )
        append_bill(bill)
        attempts = [each for each in read_bills() if each.run == bill.run]
        journal.write("metric", step=len(attempts), values=bill_metrics(bill, read_prices()))
        if bill.energy is None:
            journal.write("tag", name="bill.energy", value=NOT_MEASURED)


def read_prices() -> dict[str, Any]:
    """Return the section `prices` of params.yaml, or {} if there is none, or no valid one."""
    try:
        prices = recipe.load("params.yaml").get("prices", {})
        check_prices(prices, "params.yaml: prices")
    except Refusal:
        return {}
    return dict(prices)


def append_bill(bill: Bill) -> None:
    """Append a bill to the file; if the disk refuses it, the bill is lost, but not the work."""
    file = work_folder() / FILE
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        with os.fdopen(descriptor, "w") as lines:
            lines.write(json.dumps(asdict(bill)) + "\n")  # one write: other stages append, too
    except OSError as error:
        log.warning("%s: %s; this bill is lost", file, error.strerror)


def read_bills() -> list[Bill]:
    """Return all bills in the order in which they were written; damaged lines are skipped and counted."""
    file = work_folder() / FILE
    lines = file.read_text(errors="replace").splitlines() if file.is_file() else []
    bills: list[Bill] = []
    for line in lines:
        try:
            bills.append(_parse_bill(json.loads(line)))
        except (ValueError, TypeError):
            continue
    if len(bills) < len(lines):
        log.warning("%s: %d damaged lines are skipped", file, len(lines) - len(bills))
    return bills


def _parse_bill(content: dict[str, Any]) -> Bill:
    bill = Bill(**content)
    for field in fields(Bill):
        value = getattr(bill, field.name)
        kinds: tuple[type, ...] = (str,) if field.type == "str" else (int, float)
        if not isinstance(value, kinds) and not (field.name == "energy" and value is None):
            raise ValueError(f"'{field.name}' is not valid")
    return bill


def complete_runs(bills: Iterable[Bill]) -> list[Bill]:
    """Return one bill per run that finished: the sum of its attempts up to then.

    A stage that runs again although its run has finished only reads what is there; such an attempt does not count.
    """
    open_runs: dict[str, Bill] = {}
    finished: dict[str, Bill] = {}
    for bill in bills:
        if bill.run not in finished:
            total = open_runs[bill.run] + bill if bill.run in open_runs else bill
            open_runs[bill.run] = total
            if bill.status == "FINISHED":
                finished[bill.run] = total
    return list(finished.values())


def latest_bills(names: Sequence[str]) -> dict[str, Bill]:
    """Return the bill of the last complete run of each of these stages or recipes that has one."""
    runs = complete_runs(read_bills())
    return {name: bill for name in names for bill in runs if bill.name == name}


def sum_bills(bills: Iterable[Bill]) -> Bill:
    """Return the sum of at least one bill."""
    return reduce(operator.add, bills)


def check_prices(prices: Any, where: str) -> None:
    """Refuse a section of prices with unknown or negative values."""
    if not isinstance(prices, dict):
        raise Refusal(f"{where}: must map {', '.join(PRICES)} to prices")
    for name, value in prices.items():
        if name not in PRICES:
            raise Refusal(f"{where}: unknown price '{name}'; allowed are: {', '.join(PRICES)}")
        if expected := describe_misfit(value, ast.Name(PRICES[name])):
            raise Refusal(f"{where}.{name}: must be {expected}, not {value!r}")


def price(bill: Bill, prices: dict[str, Any]) -> float | None:
    """Return what a bill costs, or None without prices. Energy that was not measured costs nothing here."""
    if not prices.keys() & {"cpu_hour", "gpu_hour", "kilowatt_hour"}:
        return None
    cost = bill.cpu_hours * prices.get("cpu_hour", 0.0) + bill.gpu_hours * prices.get("gpu_hour", 0.0)
    return float(cost + (bill.energy or 0.0) / 1000 * prices.get("kilowatt_hour", 0.0))


def describe_bill(bill: Bill, prices: dict[str, Any]) -> str:
    """Return a bill as a line."""
    cost = _describe_cost(bill, prices) or "no prices in params.yaml"
    if bill.energy is None and "kilowatt_hour" in prices:
        cost += " without energy"
    return (
        f"{bill.seconds:,.0f} s wall  {bill.cpu_hours:.3f} CPU-hours  {bill.gpu_hours:.3f} GPU-hours"
        f"  energy {_describe_energy(bill)}  cost {cost}"
    )


BILL_HEAD = ("stage", "seconds", "CPU-hours", "GPU-hours", "energy", "cost")


def bill_rows(bills: dict[str, Bill], prices: dict[str, Any]) -> list[list[str]]:
    """Return a row of BILL_HEAD per bill, and one with their sum."""
    rows = []
    for name, bill in (bills | {"in all": sum_bills(bills.values())}).items():
        hours = [f"{value:.3f}" for value in (bill.cpu_hours, bill.gpu_hours)]
        cost = _describe_cost(bill, prices) or "no prices"
        rows.append([name, f"{bill.seconds:,.0f}", *hours, _describe_energy(bill), cost])
    return rows


def _describe_energy(bill: Bill) -> str:
    return NOT_MEASURED if bill.energy is None else f"{bill.energy:,.1f} Wh"


def _describe_cost(bill: Bill, prices: dict[str, Any]) -> str | None:
    """Return what a bill costs, with the currency if it is stated; None without prices."""
    cost = price(bill, prices)
    return None if cost is None else f"{cost:,.4f} {prices.get('currency', '')}".strip()


def bill_metrics(bill: Bill, prices: dict[str, Any]) -> dict[str, float]:
    """Return a bill as metrics for MLflow; what was not measured is left out."""
    metrics = {"wall_hours": bill.seconds / 3600, "cpu_hours": bill.cpu_hours, "gpu_hours": bill.gpu_hours}
    cost = price(bill, prices)
    metrics |= {} if bill.energy is None else {"energy_watt_hours": bill.energy}
    metrics |= {} if cost is None else {"cost": cost}
    return {f"bill/{name}": value for name, value in metrics.items()}
