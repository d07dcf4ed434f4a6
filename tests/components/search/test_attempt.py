"""Test how a worker runs a trial's rungs: divergence, lack of memory, lost workers. No cluster is needed."""

from __future__ import annotations

import math
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from components.search import attempt
from components.search.attempt import Attempt, count_kernel_kills
from components.search.objective import Objective, Rung
from components.search.trials import best_trial, read_trials

MONITOR = ("accuracy", "max")


def config(number: int = 0, until: int = 1) -> dict[str, Any]:
    return {"arm": "a", "number": number, "values": "{}", "until": until}


def test_only_a_death_by_lack_of_memory_halves_the_microbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = Objective(lambda *_: {}, {"a": {}}, 1, MONITOR)
    monkeypatch.setattr(attempt, "count_kernel_kills", lambda: 5)
    first = Attempt(objective, tmp_path, "search", config())
    first._write_marker()  # then it dies: killed by hand
    second = Attempt(objective, tmp_path, "search", config())
    assert (second.deaths, second.record.accumulate) == (1, 1)
    second.deaths = 0
    second._write_marker()
    monkeypatch.setattr(attempt, "count_kernel_kills", lambda: 6)
    assert Attempt(objective, tmp_path, "search", config()).record.accumulate == 2
    assert Attempt(objective, tmp_path, "another search", config()).record.accumulate == 1


def nth_score(scores: list[float], rung: Rung) -> dict[str, float]:
    return {"accuracy": scores[rung.number]}


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_does_not_win(tmp_path: Path, odd: float) -> None:
    """Not even as the first trial; the record holds the reason."""
    records = []
    for number, scores in enumerate([[odd, 0.5], [0.5, odd], [0.3, 0.4]]):
        objective = Objective(partial(nth_score, scores), {"a": {}}, 2, MONITOR)
        worker = Attempt(objective, tmp_path, "search", config(number, until=2))
        result = worker.step()
        while not result["done"]:
            result = worker.step()
        assert math.isfinite(result["accuracy"]) == (number == 2)
        records.append(worker.record)
    assert [(len(record.parts), record.finished) for record in records] == [(0, False), (1, False), (2, True)]
    assert records[0].diverged == f"the accuracy became {odd}"
    assert best_trial(records, MONITOR).number == 2
    assert read_trials(tmp_path / "a", 3) == records, "the records on disk are the same"


def test_the_kernels_count_of_killed_processes_is_read() -> None:
    if not Path("/proc/vmstat").exists():
        pytest.skip("only Linux counts them")
    command = ["awk", '$1 == "oom_kill" {print $2}', "/proc/vmstat"]
    assert count_kernel_kills() == int(subprocess.run(command, capture_output=True, check=True).stdout)


FOLDS = [{"accuracy": 0.5, "iou/dog": 0.2}, {"accuracy": 0.7, "iou/dog": 0.4, "iou/cat": 0.8}, {"accuracy": 0.6}]


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0]])
def test_a_score_that_some_folds_lack_is_the_mean_over_the_others(tmp_path: Path, order: list[int]) -> None:
    """Let the scores of a fold depend on its classes, as those of a segmentation or of crowds do."""
    objective = Objective(lambda rung: FOLDS[order[rung.number]], {"a": {}}, 3, MONITOR)
    worker = Attempt(objective, tmp_path, "search", config(until=3))
    results = [worker.step() for _ in order]
    scores = {"accuracy": 0.6, "iou/dog": pytest.approx(0.3), "iou/cat": 0.8}
    assert results[-1] == scores | {"done": True}
    assert read_trials(tmp_path / "a", 1) == [worker.record], "a record that was read as damaged would be run again"
