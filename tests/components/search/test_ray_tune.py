"""Test the search on real Ray Tune and Optuna: it is reproducible, computes nothing twice and loses no trial."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.errors import Diverged, Refusal
from components.search import ray_tune
from components.search.objective import Objective, Rung
from components.search.space import grid_combinations
from components.search.trials import Trial, best_trial

SPACE = {"lr": {"low": 0.01, "high": 1.0, "log": True}, "batch": {"choices": [8, 16]}}
MONITOR = ("accuracy", "max")
pytestmark = pytest.mark.cluster(lane=1)


def log_call(folder: str, text: str) -> None:
    """Append a line for a call of the objective's function."""
    with (Path(folder) / "calls").open("a") as file:
        file.write(f"{text}\n")


def read_calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().split("\n")[:-1]


def score_peak(rung: Rung, folder: str, pause: float = 0.0) -> dict[str, float]:
    """Score best at lr 0.1; each rung adds a little."""
    log_call(folder, f"{rung.values['lr']:.6f} {rung.number} {rung.accumulate} {os.getpid()}")
    time.sleep(pause)
    error = abs(np.log10(rung.values["lr"]) + 1)
    return {"accuracy": 1 - error + 0.01 * rung.number, "loss": float(error)}


def search(
    folder: Path, function=score_peak, samples: int = 6, on_trial=None, arms: str = "ab", rungs: int = 4, **arguments
) -> dict[str, list[Trial]]:
    objective = Objective(function, {arm: {"folder": str(folder), **arguments} for arm in arms}, rungs, MONITOR)
    return ray_tune.search(objective, folder / "search", on_trial, space=SPACE, samples=samples, seed=3)


def results(trials: dict[str, list[Trial]]) -> dict[str, list[tuple]]:
    """Return what must be reproducible."""
    return {
        arm: [(trial.number, trial.values, trial.parts, trial.finished) for trial in arm_trials]
        for arm, arm_trials in trials.items()
    }


@pytest.fixture(scope="module")
def undisturbed(cluster_of_two: str, tmp_path_factory: pytest.TempPathFactory):
    """Return the folder of a search, its trials, and (arm, number, whether it has a record) of each report."""
    folder = tmp_path_factory.mktemp("undisturbed")
    reports: list[tuple[str, int, bool]] = []

    def report(trial: Trial, trial_folder: Path) -> None:
        reports.append((trial.arm, trial.number, (trial_folder / "trial.json").is_file()))

    return folder, search(folder, on_trial=report), reports


def test_each_arm_gets_the_same_search_and_the_best_is_chosen(undisturbed) -> None:
    folder, trials, reports = undisturbed
    assert results({"x": trials["a"]}) == results({"x": trials["b"]})
    assert [trial.number for trial in trials["a"]] == list(range(6))
    assert len({trial.values["lr"] for trial in trials["a"]}) == 6
    best = best_trial(trials["a"], MONITOR)
    assert best.scores["accuracy"] == max(trial.scores["accuracy"] for trial in trials["a"] if trial.finished)
    assert best.scores["accuracy"] == pytest.approx(np.mean([part["accuracy"] for part in best.parts]))
    assert {(arm, number) for arm, number, _ in reports} == {(arm, number) for arm in "ab" for number in range(6)}
    assert all(has_record for _, _, has_record in reports)
    assert not (folder / "search" / "ray").exists()


def test_the_best_are_promoted_and_actors_are_reused(undisturbed) -> None:
    """The best two of six do three rungs, the better one of them the fourth; nothing is computed twice."""
    folder, trials, reports = undisturbed
    rungs = [len(trial.parts) for trial in trials["a"]]
    assert all(trial.finished == (len(trial.parts) == 4) for trial in trials["a"])
    assert sorted(rungs) == [1, 1, 1, 1, 3, 4]
    assert len(reports) == 2 * (6 + 2 + 1)
    errors = [abs(np.log10(trial.values["lr"]) + 1) for trial in trials["a"]]
    assert sorted(range(6), key=lambda n: -rungs[n])[:2] == sorted(range(6), key=lambda n: errors[n])[:2]
    calls = read_calls(folder)
    assert len(calls) == 2 * sum(rungs)
    assert len({line.split()[3] for line in calls}) <= 2


def test_a_repeated_search_computes_nothing_and_returns_the_same(undisturbed) -> None:
    folder, trials, _ = undisturbed
    before = read_calls(folder)
    assert results(search(folder)) == results(trials)
    assert read_calls(folder) == before


def test_more_samples_reuse_the_trials_of_an_earlier_search(cluster_of_two: str, tmp_path: Path) -> None:
    """4 samples, then 6, in another folder: the four keep their values, and no rung of them runs again."""

    def run(name: str, samples: int, identity: str = "same", space: dict = SPACE) -> list[Trial]:
        arms = {"a": {"folder": str(tmp_path)}}
        objective = Objective(score_peak, arms, 4, MONITOR, identity=identity)
        return ray_tune.search(objective, tmp_path / name, space=space, samples=samples, seed=3)["a"]

    four = run("four", 4)
    before = len(read_calls(tmp_path))
    assert before == sum(len(trial.parts) for trial in four)
    six = run("six", 6)
    assert [trial.values for trial in six[:4]] == [trial.values for trial in four]
    computed = len(read_calls(tmp_path)) - before
    assert computed == sum(len(trial.parts) for trial in six) - sum(len(trial.parts) for trial in four)
    fresh = run("alone", 6, identity="")
    assert [trial.values for trial in fresh] == [trial.values for trial in six], "reuse changes no proposal"
    before = len(read_calls(tmp_path))
    assert [trial.parts for trial in run("other", 4, identity="other data")] == [trial.parts for trial in four]
    assert len(read_calls(tmp_path)) > before, "other data: nothing is taken over"
    before = read_calls(tmp_path)
    assert [trial.parts for trial in run("six again", 6)] == [trial.parts for trial in six]
    assert read_calls(tmp_path) == before


def test_a_killed_search_goes_on_and_ends_the_same(undisturbed, tmp_path: Path) -> None:
    _, trials, _ = undisturbed
    code = f"""
        from pathlib import Path
        from tests.components.search.test_ray_tune import search
        search(Path({str(tmp_path)!r}), pause=0.3)
    """
    driver = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], cwd=Path(__file__).parents[3])
    deadline = time.monotonic() + 120
    while not len(list(tmp_path.glob("search/*/*/trial.json"))) >= 5 and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    time.sleep(3)  # Ray ends the orphaned workers
    before = read_calls(tmp_path)
    records = [json.loads(file.read_text()) for file in tmp_path.glob("search/*/*/trial.json")]
    rungs_before = sum(len(record["parts"]) for record in records)
    assert len(before) >= 5
    assert results(search(tmp_path)) == results(trials)
    rungs = sum(len(trial.parts) for arm_trials in trials.values() for trial in arm_trials)
    assert len(read_calls(tmp_path)) - len(before) == rungs - rungs_before


def test_trials_share_a_gpu_if_they_are_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRAINYARD_TRIALS_PER_GPU", raising=False)
    assert ray_tune.trial_resources(gpu=True) == {"CPU": 1, "GPU": 1}
    monkeypatch.setenv("TRAINYARD_TRIALS_PER_GPU", "4")
    assert ray_tune.trial_resources(gpu=True) == {"CPU": 1, "GPU": 0.25}
    assert ray_tune.trial_resources(gpu=False) == {"CPU": 1}


def test_an_interrupted_search_does_not_end_as_if_it_were_complete(cluster_of_two: str, tmp_path: Path) -> None:
    code = f"""
        from pathlib import Path
        from tests.components.search.test_ray_tune import search
        search(Path({str(tmp_path)!r}), pause=0.2, arms="a", rungs=1, samples=12)
        print("complete")
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    driver = subprocess.Popen(command, cwd=Path(__file__).parents[3], stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("search/*/*/trial.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    driver.send_signal(signal.SIGINT)
    output, _ = driver.communicate(timeout=60)
    assert (driver.returncode != 0, output) == (True, "")
    assert 1 <= len(list(tmp_path.glob("search/*/*/trial.json"))) < 12, "what had ended is kept"


def score_growing(rung: Rung, log: str, folder: str) -> dict[str, float]:
    """Need what the previous rung left; score this rung alone."""
    state = Path(folder) / "state"
    assert (state.read_text() if state.exists() else "") == "." * rung.number
    state.parent.mkdir(exist_ok=True)
    state.write_text("." * (rung.number + 1))
    log_call(log, f"{rung.values['lr']:.6f} {rung.number}")
    return {"accuracy": rung.number - abs(np.log10(rung.values["lr"]) + 1), "loss": 0.0}


def test_cumulative_rungs_go_on_from_each_other_and_the_last_one_counts(cluster_of_two: str, tmp_path: Path) -> None:
    folder = tmp_path / "search"
    objective = Objective(score_growing, {"a": {"log": str(tmp_path)}}, 4, MONITOR, cumulative=True)
    trials = ray_tune.search(objective, folder, space=SPACE, samples=6, seed=3)["a"]
    assert sorted(len(trial.parts) for trial in trials) == [1, 1, 1, 1, 3, 4]
    assert all(trial.scores == trial.parts[-1] and trial.rung_scores == trial.parts for trial in trials)
    assert best_trial(trials, MONITOR).scores["accuracy"] > 2
    assert len(read_calls(tmp_path)) == sum(len(trial.parts) for trial in trials)
    assert not list(folder.rglob("fit")), "the fits are deleted"


def score_hungry(rung: Rung, folder: str) -> dict[str, float]:
    """Need a quarter of the microbatch from the second rung on."""
    log_call(folder, f"{rung.values['lr']:.6f} {rung.number} {rung.accumulate}")
    if rung.number >= 1 and rung.accumulate < 4:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    return {"accuracy": rung.values["lr"], "loss": 0.0}


def test_out_of_memory_halves_the_microbatch_and_loses_nothing(cluster_of_two: str, tmp_path: Path) -> None:
    trials = search(tmp_path, score_hungry, samples=2, arms="a")["a"]
    assert any(trial.finished for trial in trials)
    assert all(trial.accumulate == (4 if len(trial.parts) > 1 else 1) for trial in trials)


def score_dying(rung: Rung, folder: str) -> dict[str, float]:
    """Kill the worker three times in the second rung, as the kernel does on lack of memory."""
    calls = read_calls(Path(folder)) if (Path(folder) / "calls").exists() else []
    log_call(folder, f"{rung.number} {rung.accumulate}")
    if rung.number == 1 and calls.count("death") < 3:
        log_call(folder, "death")
        os.kill(os.getpid(), signal.SIGKILL)
    return {"accuracy": 0.5, "loss": 0.0}


def test_a_worker_lost_repeatedly_gets_half_the_microbatch(cluster_of_two: str, tmp_path: Path) -> None:
    (trial,) = search(tmp_path, score_dying, samples=1, arms="a", rungs=2)["a"]
    assert read_calls(tmp_path) == ["0 1", "1 1", "death", "1 1", "death", "1 2", "death", "1 4"]
    assert trial.finished
    assert trial.accumulate == 4


def score_or_die(rung: Rung, folder: str) -> dict[str, float]:
    """Kill the worker of every trial with the small batch in the second rung."""
    if rung.values["batch"] == 8 and rung.number == 1:
        log_call(folder, "death")
        os.kill(os.getpid(), signal.SIGKILL)
    return {"accuracy": 0.5, "loss": 0.0}


def test_a_trial_that_is_given_up_is_reported_with_its_reason(
    cluster_of_two: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_tune, "MAX_LOST_WORKERS", 1)
    reports: list[Trial] = []
    objective = Objective(score_or_die, {"a": {"folder": str(tmp_path)}}, 2, MONITOR)
    began = time.time_ns() // 1_000_000
    options: dict[str, Any] = {"space": {"batch": {"choices": [8, 16]}}, "sampler": "grid"}
    trials = ray_tune.search(objective, tmp_path / "search", lambda trial, _: reports.append(trial), **options)
    lost, finished = trials["a"]
    assert lost.reason == "given up: its worker was lost 2 times"
    assert lost.parts == [{"accuracy": 0.5, "loss": 0.0}], "the rung before"
    assert (lost.finished, finished.finished, finished.reason) == (False, True, "")
    assert sorted(trial.number for trial in reports) == [0, 1]
    for trial in (lost, finished):
        assert began <= trial.began < trial.ended <= time.time_ns() // 1_000_000
    assert best_trial([lost, finished], MONITOR) == finished


def fail(rung: Rung, folder: str) -> dict[str, float]:
    log_call(folder, "called")
    raise KeyError("no such column")


def refuse(rung: Rung, folder: str) -> dict[str, float]:
    raise Refusal("task.start: no weights; run the stage that writes them")


def test_an_error_of_our_own_code_ends_the_search_at_once(cluster_of_two: str, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="no such column"):
        search(tmp_path, fail)
    assert len(read_calls(tmp_path)) <= 2
    with pytest.raises(Refusal, match=r"^task.start: no weights"):
        search(tmp_path, refuse, arms="a")


def score_diverging(rung: Rung, folder: str) -> dict[str, float]:
    """Diverge at high rates, at some of them only in the second rung."""
    rate = rung.values["lr"]
    log_call(folder, f"{rate:.6f} {rung.number}")
    if rate > 0.15 or (rate > 0.1 and rung.number == 1):
        raise Diverged("step 7: the loss became nan; lower the learning rate or set fit.clip")
    return {"accuracy": rate, "loss": 0.0}


def test_a_trial_that_diverges_does_not_end_the_search(cluster_of_two: str, tmp_path: Path) -> None:
    trials = search(tmp_path, score_diverging, samples=8, arms="a")["a"]
    assert [trial.number for trial in trials] == list(range(8))
    assert all(("nan" in trial.diverged) <= (trial.values["lr"] > 0.1) for trial in trials)
    assert any(trial.diverged and not trial.parts for trial in trials)
    assert all(not trial.finished for trial in trials if trial.diverged)
    assert any(trial.diverged and trial.parts for trial in trials)
    assert best_trial(trials, MONITOR).values["lr"] <= 0.1
    before = read_calls(tmp_path)
    assert results(search(tmp_path, score_diverging, samples=8, arms="a")) == results({"a": trials})
    assert read_calls(tmp_path) == before


def test_a_grid_tries_every_combination_with_all_rungs(cluster_of_two: str, tmp_path: Path) -> None:
    objective = Objective(score_peak, {"a": {"folder": str(tmp_path)}}, 3, MONITOR)
    options: dict[str, Any] = {
        "space": {"lr": {"choices": [0.001, 0.1, 1.0]}, "batch": {"choices": [{"size": 8}, {"size": 16}]}},
        "sampler": "grid",
    }
    trials = ray_tune.search(objective, tmp_path / "search", **options)["a"]
    assert [trial.values for trial in trials] == grid_combinations(options["space"])
    assert all(trial.finished and len(trial.parts) == 3 for trial in trials), "however low it scores"
    assert best_trial(trials, MONITOR).values["lr"] == 0.1
    assert len(read_calls(tmp_path)) == 6 * 3, "nothing is computed twice"
    repeated = ray_tune.search(objective, tmp_path / "search", **options)["a"]
    assert [trial.parts for trial in repeated] == [trial.parts for trial in trials]
    assert len(read_calls(tmp_path)) == 6 * 3, "rungs with scores are not run again"
