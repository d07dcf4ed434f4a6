"""The search on real Ray Tune and Optuna: the same result every time, nothing done twice, no trial lost."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from components.errors import Diverged, Refusal
from components.search import ray_tune, trials
from components.search.proposals import grid_combinations
from components.search.trials import Attempt, Trial, best_trial, kernel_kills

SPACE = {"lr": {"low": 0.01, "high": 1.0, "log": True}, "batch": {"choices": [8, 16]}}
MONITOR = ("accuracy", "max")
pytestmark = pytest.mark.cluster(lane=1)


def note(folder: str, text: str) -> None:
    """One line for each call of a trial, in the order of calls."""
    with (Path(folder) / "calls").open("a") as file:
        file.write(f"{text}\n")


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().split("\n")[:-1]


def peak(values: dict, accumulate: int, rung: int, folder: str, pause: float = 0.0) -> dict[str, float]:
    """Best at lr 0.1; each rung adds a little of its own."""
    note(folder, f"{values['lr']:.6f} {rung} {accumulate} {os.getpid()}")
    time.sleep(pause)
    error = abs(np.log10(values["lr"]) + 1)
    return {"accuracy": 1 - error + 0.01 * rung, "loss": float(error)}


def search(folder: Path, trial=peak, samples: int = 6, on_trial=None, parallel: int = 1, arms: str = "ab", **arguments):
    given = {"folder": str(folder), **arguments}
    return ray_tune.search(
        trial,
        dict.fromkeys(arms, given),
        folder / "search",
        rungs=4,
        monitor=MONITOR,
        on_trial=on_trial,
        space=SPACE,
        samples=samples,
        seed=3,
        parallel=parallel,
    )


def told(found: dict[str, list[Trial]]) -> dict:
    return {arm: [(t.number, t.values, t.parts, t.finished) for t in trials] for arm, trials in found.items()}


@pytest.fixture(scope="module")
def undisturbed(cluster_of_two: str, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("undisturbed")
    heard: list[tuple[str, int, bool]] = []
    found = search(
        folder, on_trial=lambda trial, at: heard.append((trial.arm, trial.number, (at / "trial.json").is_file()))
    )
    return folder, found, heard


def test_each_arm_gets_the_same_search_and_the_best_is_found(undisturbed) -> None:
    folder, found, heard = undisturbed
    assert told({"x": found["a"]}) == told({"x": found["b"]})
    assert [trial.number for trial in found["a"]] == list(range(6))
    assert len({trial.values["lr"] for trial in found["a"]}) == 6
    winner = best_trial(found["a"], MONITOR)
    assert winner.scores["accuracy"] == max(trial.scores["accuracy"] for trial in found["a"] if trial.finished)
    assert winner.scores["accuracy"] == pytest.approx(np.mean([part["accuracy"] for part in winner.parts]))
    assert {arm for arm, _, _ in heard} == {"a", "b"}
    assert all({n for arm, n, _ in heard if arm == one} == set(range(6)) for one in "ab")
    assert all(written for _, _, written in heard)
    assert not (folder / "search" / "ray").exists()


def test_the_best_go_on_and_actors_are_reused(undisturbed) -> None:
    """Of six the best two see three folds, and the better one the fourth; nothing is computed twice."""
    folder, found, heard = undisturbed
    rungs = [len(trial.parts) for trial in found["a"]]
    assert all(trial.finished == (len(trial.parts) == 4) for trial in found["a"])
    assert sorted(rungs) == [1, 1, 1, 1, 3, 4]
    assert len(heard) == 2 * (6 + 2 + 1)
    errors = [abs(np.log10(trial.values["lr"]) + 1) for trial in found["a"]]
    assert sorted(range(6), key=lambda n: -rungs[n])[:2] == sorted(range(6), key=lambda n: errors[n])[:2]
    assert len(calls(folder)) == 2 * sum(rungs)
    assert len({line.split()[3] for line in calls(folder)}) <= 2


def test_again_it_does_nothing_and_says_the_same(undisturbed) -> None:
    folder, found, _ = undisturbed
    before = calls(folder)
    assert told(search(folder)) == told(found)
    assert calls(folder) == before


def test_killed_in_the_middle_it_goes_on_and_ends_the_same(undisturbed, tmp_path: Path) -> None:
    _, found, _ = undisturbed
    code = f"""
        from pathlib import Path
        from tests.components import test_tuning as t
        t.search(Path({str(tmp_path)!r}), pause=0.3)
    """
    driver = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], cwd=Path(__file__).parents[3])
    until = time.monotonic() + 120
    while not len(list(tmp_path.glob("search/*/*/trial.json"))) >= 5 and time.monotonic() < until:
        time.sleep(0.1)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    time.sleep(3)  # Ray ends the orphaned workers
    before = [line.rsplit(maxsplit=1)[0] for line in calls(tmp_path)]
    finished = [
        (f"{record['values']['lr']:.6f}", rung)
        for file in tmp_path.glob("search/*/*/trial.json")
        for record in [json.loads(file.read_text())]
        for rung in range(len(record["parts"]))
    ]
    assert len(before) >= 5
    assert told(search(tmp_path)) == told(found)
    again = calls(tmp_path)[len(before) :]
    total = sum(len(trial.parts) for trials in found.values() for trial in trials)
    assert len(again) == total - len(finished)


def growing(values: dict, accumulate: int, rung: int, log: str, folder: str) -> dict[str, float]:
    """Each rung needs what the one before left; the score is of the rung alone."""
    left = Path(folder) / "left"
    assert (left.read_text() if left.exists() else "") == "." * rung
    left.parent.mkdir(exist_ok=True)
    left.write_text("." * (rung + 1))
    note(log, f"{values['lr']:.6f} {rung}")
    return {"accuracy": rung - abs(np.log10(values["lr"]) + 1), "loss": 0.0}


def test_a_rung_goes_on_from_the_one_before_and_the_last_one_counts(cluster_of_two: str, tmp_path: Path) -> None:
    given, options = {"a": {"log": str(tmp_path)}}, {"space": SPACE, "samples": 6, "seed": 3}
    folder = tmp_path / "search"
    found = ray_tune.search(growing, given, folder, rungs=4, monitor=MONITOR, cumulative=True, **options)["a"]
    assert sorted(len(trial.parts) for trial in found) == [1, 1, 1, 1, 3, 4]
    assert all(trial.scores == trial.parts[-1] and trial.rungs == trial.parts for trial in found)
    assert best_trial(found, MONITOR).scores["accuracy"] > 2
    assert len(calls(tmp_path)) == sum(len(trial.parts) for trial in found)
    assert not list(folder.rglob("fit")), "nothing is left of the fits"


def hungry(values: dict, accumulate: int, rung: int, folder: str) -> dict[str, float]:
    """Needs a quarter of the microbatch from its second rung on."""
    note(folder, f"{values['lr']:.6f} {rung} {accumulate}")
    if rung >= 1 and accumulate < 4:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    return {"accuracy": values["lr"], "loss": 0.0}


def test_out_of_memory_halves_the_microbatch_and_loses_nothing(cluster_of_two: str, tmp_path: Path) -> None:
    found = search(tmp_path, hungry, samples=2, arms="a")["a"]
    assert any(trial.finished for trial in found)
    assert all(trial.accumulate == (4 if len(trial.parts) > 1 else 1) for trial in found)


def dying(values: dict, accumulate: int, rung: int, folder: str) -> dict[str, float]:
    """Its worker is killed three times at the second rung, as the kernel does when memory ends."""
    deaths = [line for line in calls(Path(folder)) if line == "death"] if (Path(folder) / "calls").exists() else []
    note(folder, f"{rung} {accumulate}")
    if rung == 1 and len(deaths) < 3:
        note(folder, "death")
        os.kill(os.getpid(), signal.SIGKILL)
    return {"accuracy": 0.5, "loss": 0.0}


def test_a_worker_lost_again_and_again_gets_half_the_microbatch(cluster_of_two: str, tmp_path: Path) -> None:
    given = {"folder": str(tmp_path)}
    found = ray_tune.search(
        dying, {"a": given}, tmp_path / "search", rungs=2, monitor=MONITOR, space=SPACE, samples=1, seed=0
    )
    assert calls(tmp_path) == ["0 1", "1 1", "death", "1 1", "death", "1 2", "death", "1 4"]
    assert found["a"][0].finished
    assert found["a"][0].accumulate == 4


def broken(values: dict, accumulate: int, rung: int, folder: str) -> dict[str, float]:
    note(folder, "called")
    raise KeyError("no such column")


def refused(values: dict, accumulate: int, rung: int, folder: str) -> dict[str, float]:
    raise Refusal("task.start: no weights; run the stage that writes them")


def test_a_mistake_of_our_own_ends_the_search_at_once(cluster_of_two: str, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="no such column"):
        search(tmp_path, broken)
    assert len(calls(tmp_path)) <= 2
    with pytest.raises(Refusal, match=r"^task.start: no weights"):
        search(tmp_path, refused, arms="a")


def diverging(values: dict, accumulate: int, rung: int, folder: str) -> dict[str, float]:
    """Half of the rates are too high, some in the second rung alone."""
    note(folder, f"{values['lr']:.6f} {rung}")
    if values["lr"] > 0.15 or (values["lr"] > 0.1 and rung == 1):
        raise Diverged("step 7: the loss became nan; lower the learning rate or set fit.clip")
    return {"accuracy": values["lr"], "loss": 0.0}


def test_a_trial_that_diverges_is_a_poor_one_and_no_more(cluster_of_two: str, tmp_path: Path) -> None:
    found = search(tmp_path, diverging, samples=8, arms="a")["a"]
    assert [trial.number for trial in found] == list(range(8))
    assert all(("nan" in trial.diverged) <= (trial.values["lr"] > 0.1) for trial in found)
    assert any(trial.diverged and not trial.parts for trial in found)
    assert all(not trial.finished for trial in found if trial.diverged)
    assert any(trial.diverged and trial.parts for trial in found)
    assert best_trial(found, MONITOR).values["lr"] <= 0.1
    before = calls(tmp_path)
    assert told(search(tmp_path, diverging, samples=8, arms="a")) == told({"a": found})
    assert calls(tmp_path) == before


# ------------------------------------------------------------------------------------------------ without a cluster


def test_a_death_by_memory_is_told_from_a_death_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"arm": "a", "number": 0, "values": "{}", "until": 1}
    kills = iter([5, 5, 6])
    monkeypatch.setattr(trials, "kernel_kills", lambda: next(kills))

    def attempt(search: str) -> Attempt:
        return Attempt(lambda *_: {}, {"a": {}}, tmp_path, 1, "accuracy", search, False, config)

    first = attempt("one")
    first._mark()  # ... and dies: by hand
    second = attempt("one")
    assert (second.deaths, second.record.accumulate) == (1, 1)
    second.deaths = 0
    second.search = "one"
    monkeypatch.setattr(trials, "kernel_kills", lambda: 6)
    second._mark()
    monkeypatch.setattr(trials, "kernel_kills", lambda: 7)
    assert attempt("one").record.accumulate == 2
    assert attempt("another search").record.accumulate == 1


def scored(parts: list[float], values: dict, accumulate: int, rung: int) -> dict[str, float]:
    return {"accuracy": parts[rung]}


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_does_not_win(tmp_path: Path, odd: float) -> None:
    """Not even as the first trial; where all scores are so, none has finished, and the reason is known."""
    scores = [[odd, 0.5], [0.5, odd], [0.3, 0.4]]
    found = []
    for number, parts in enumerate(scores):
        config = {"arm": "a", "number": number, "values": "{}", "until": 2}
        attempt = Attempt(partial(scored, parts), {"a": {}}, tmp_path, 2, "accuracy", "one", False, config)
        told = attempt.step()
        while not told["done"]:
            told = attempt.step()
        assert math.isfinite(told["accuracy"]) == (number == 2)
        found.append(attempt.record)
    assert [(len(t.parts), t.finished) for t in found] == [(0, False), (1, False), (2, True)]
    assert found[0].diverged == f"the accuracy became {odd}"
    assert best_trial(found, MONITOR).number == 2
    assert trials.read_trials(tmp_path / "a", 3) == found, "the records on disk are the same"


def test_the_kernel_says_how_many_it_has_killed() -> None:
    if not Path("/proc/vmstat").exists():
        pytest.skip("Linux alone counts them")
    assert kernel_kills() == int(
        subprocess.run(["awk", '$1 == "oom_kill" {print $2}', "/proc/vmstat"], capture_output=True, check=True).stdout
    )


def test_a_grid_tries_every_combination_to_its_end(cluster_of_two: str, tmp_path: Path) -> None:
    space = {"lr": {"choices": [0.001, 0.1, 1.0]}, "batch": {"choices": [{"size": 8}, {"size": 16}]}}
    given = {"a": {"folder": str(tmp_path)}}
    options = {"rungs": 3, "monitor": MONITOR, "space": space, "sampler": "grid"}
    found = ray_tune.search(peak, given, tmp_path / "search", **options)["a"]
    assert [trial.values for trial in found] == grid_combinations(space)
    assert all(trial.finished and len(trial.parts) == 3 for trial in found), "however poor it is"
    assert best_trial(found, MONITOR).values["lr"] == 0.1
    before = len(calls(tmp_path))
    assert before == 6 * 3, "nothing is computed twice"
    again = ray_tune.search(peak, given, tmp_path / "search", **options)["a"]
    assert [trial.parts for trial in again] == [trial.parts for trial in found]
    assert len(calls(tmp_path)) == before, "what is known is not done again"
