"""Test bills: what attempts add up to, what they cost, and what `plan` forecasts from them."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from components.cluster.plan import Holdings
from components.errors import Refusal, Stopped
from components.runs import energy
from components.runs.journal import Journal, read_records
from pipelines.commands.forecast import describe_forecast
from pipelines.stage import bill as bills
from pipelines.stage.bill import (
    Bill,
    Usage,
    append_bill,
    bill_rows,
    check_prices,
    complete_runs,
    describe_bill,
    describe_machine,
    price,
    read_bills,
    record_bill,
)

PRICES = {"cpu_hour": 0.5, "gpu_hour": 2.0, "kilowatt_hour": 0.3, "currency": "EUR"}


def make_bill(name: str = "tune", run: str = "tune-1", status: str = "FINISHED", seconds: float = 36.0) -> Bill:
    hours = seconds / 3600
    return Bill(name, run, "s", describe_machine(), 1, status, 0.0, seconds, hours, 2 * hours, hours, 100.0)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_attempts_add_up_until_the_run_has_finished(caplog: pytest.LogCaptureFixture) -> None:
    for status, seconds in (("KILLED", 20.0), ("FAILED", 4.0), ("FINISHED", 10.0), ("FINISHED", 1.0)):
        append_bill(make_bill(status=status, seconds=seconds))
    append_bill(make_bill(run="tune-2", status="KILLED"))
    (run,) = complete_runs(read_bills())
    assert run.seconds == 34, "the last attempt only read what was there, and tune-2 has not finished"
    assert run.cpu_hours == pytest.approx(68 / 3600)
    assert run.energy == 300
    with (Path(".trainyard") / bills.FILE).open("a") as lines:
        lines.write('{"name": "tune"\n{"name": 3}\n')
    assert len(read_bills()) == 5
    assert "2 damaged lines are skipped" in caplog.text


def test_a_bill_has_its_price_and_says_what_was_not_measured() -> None:
    bill = Bill("a", "a-1", "s", "m", 1, "FINISHED", 0.0, 3600.0, 2.0, 3.0, 0.5, 2000.0)
    assert price(bill, PRICES) == pytest.approx(3 * 0.5 + 0.5 * 2 + 2 * 0.3)
    assert price(bill, {}) is None
    assert describe_bill(bill, PRICES).endswith("energy 2,000.0 Wh  cost 3.1000 EUR")
    unmeasured = replace(bill, energy=None)
    assert describe_bill(unmeasured, PRICES).endswith("energy not measured  cost 2.5000 EUR without energy")
    assert describe_bill(unmeasured, {}).endswith("energy not measured  cost no prices in params.yaml")
    assert (bill + unmeasured).energy is None, "a part is not the sum"
    assert bill_rows({"a": bill}, PRICES)[-1] == [
        *("in all", "3,600", "3.000", "0.500", "2,000.0 Wh", "3.1000 EUR"),
    ]
    for prices, message in [
        ({"cpu_hours": 1}, "unknown price 'cpu_hours'"),
        ({"cpu_hour": -1}, "must be a number of at least 0"),
        (3, "must map"),
    ]:
        with pytest.raises(Refusal, match=message):
            check_prices(prices, "params.yaml: prices")


@pytest.mark.parametrize(("error", "status"), [(None, "FINISHED"), (Stopped("x"), "KILLED"), (ValueError(), "FAILED")])
def test_a_stage_leaves_its_bill_however_it_ends(
    error: Exception | None, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(energy, "read_counters", dict)
    Path("params.yaml").write_text("prices: {cpu_hour: 3600}\n")
    usage = Usage()
    usage.add(2.0, Holdings(workers=2, cpus=4.0, gpus=1.0, machines=1))
    usage.add_trials(1.0, trial_seconds=3.0, share=0.5, machines=1)
    try:
        with record_bill(usage, Journal(Path("stage.log")), time.time() - 5, name="tune", run="tune-1", settings="s"):
            if error is not None:
                raise error
    except (Stopped, ValueError):
        assert error is not None
    (bill,) = read_bills()
    assert bill.status == status
    assert bill.seconds == pytest.approx(5, abs=1)
    assert bill.worker_hours * 3600 == pytest.approx(2 * 2 + 3)
    assert bill.cpu_hours * 3600 == pytest.approx(4 * 2 + 3 + 2, abs=1), "the driver holds a CPU, too"
    assert bill.gpu_hours * 3600 == pytest.approx(2 + 1.5)
    assert bill.energy is None
    metric, tag = read_records(Path("stage.log"))
    assert metric.payload["values"]["bill/cost"] == pytest.approx(bill.cpu_hours * 3600)
    assert "bill/energy_watt_hours" not in metric.payload["values"]
    assert (tag.payload["name"], tag.payload["value"]) == ("bill.energy", "not measured")


def test_a_forecast_is_a_range_of_runs_on_this_machine() -> None:
    nothing = f"forecast: none, as none of these stages has run on {describe_machine()}"
    assert describe_forecast(["tune"], {}) == [nothing]
    for run, seconds in (("tune-1", 36.0), ("tune-2", 72.0)):
        append_bill(make_bill(run=run, seconds=seconds))
    append_bill(replace(make_bill(run="tune-3", seconds=999.0), machine="1 CPU of another kind"))
    append_bill(replace(make_bill("fit", "fit-1", seconds=36.0), settings="other"))
    lines = describe_forecast(["tune", "fit", "evaluate"], {"tune": "s", "fit": "s"})
    assert lines[0] == f"forecast from earlier runs on {describe_machine()}:"
    assert [" ".join(line.split()) for line in lines[1:]] == [
        "tune 36 to 72 s 0.010 to 0.020 worker-hours 0.010 to 0.020 GPU-hours (2 runs)",
        "fit 36 s 0.010 worker-hours 0.010 GPU-hours (1 run, with other values)",
        "evaluate never run here",
        "in all 72 to 108 s 0.020 to 0.030 worker-hours 0.020 to 0.030 GPU-hours, without evaluate",
    ]
