"""`fit.compile: auto`: one trial per run, a choice that all workers and attempts share, and the same bytes from it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from components import optimizers
from components.errors import Refusal
from components.models.softmax import Softmax
from components.runs import journal
from components.tasks.classification import Classification
from components.training import compilation, engine, loop
from components.training.compilation import CHOICE_FILE, ROUNDS, Choice, choose, compile_calls, run_trial
from components.training.peers import Peers, fork_workers
from components.training.task import Spec, State
from components.training.update import ShardedUpdate
from tests.components.training.small_fits import feeds, result, spec, tasks

ROWS = 6
CALL = f"float32[{ROWS}, 1, 4, 4]"
COMPILED = Choice(True, "forced", [CALL])


def small_task() -> tuple[Classification, State]:
    task = Classification(Softmax, partial(optimizers.sgd, lr=0.1))
    torch.manual_seed(0)
    return task, task.setup(Spec({"image": (4, 4, 1)}, ("a", "b"), {"mean": [0.5], "std": [0.5]}))


def small_batch() -> dict[str, torch.Tensor]:
    image = torch.arange(ROWS * 16, dtype=torch.uint8).view(ROWS, 4, 4, 1)
    return {"image": image, "label": torch.arange(ROWS) % 2}


def clock_of(*seconds: float) -> Callable[[], float]:
    """Return a clock that is read in pairs; the readings of each pair are so many seconds apart."""
    durations, now, is_running = iter(seconds), 0.0, False

    def clock() -> float:
        nonlocal now, is_running
        if is_running:
            now += next(durations)
        is_running = not is_running
        return now

    return clock


def try_small(clock: Callable[[], float], steps: int) -> Choice:
    """Return the choice of a trial, which must leave the state as it was."""
    task, state = small_task()
    before = {name: value.clone() for name, value in state.modules["net"].state_dict().items()}

    def make_step(copy: State) -> Callable[[], None]:
        update = ShardedUpdate(copy, Peers())

        def step() -> None:
            update.begin([small_batch()], [ROWS])
            task.step(copy, update)

        return step

    choice = run_trial(state, make_step, steps, clock)
    assert all(torch.equal(value, before[name]) for name, value in state.modules["net"].state_dict().items())
    assert state.step == 0
    assert not state.optimizers["net"].state
    return choice


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Return a list of the calls of compiled functions, which are not compiled in truth."""
    calls: list[str] = []

    def compile(function: Callable[..., Any], **options: bool) -> Callable[..., Any]:
        assert options == {"dynamic": False, "fullgraph": True}

        def compiled(*arguments: Any) -> Any:
            calls.append(str([list(argument.shape) for argument in arguments]))
            return function(*arguments)

        return compiled

    monkeypatch.setattr(torch, "compile", compile)
    monkeypatch.setenv(compilation.CACHE_VARIABLE, str(tmp_path))
    return calls


# seconds of: a first eager step, an eager step, the first compiled step, the second, then both ways in turn
def timings(eager: float, compiled: float, compilation: float) -> Callable[[], float]:
    return clock_of(9.0, eager, compilation + eager, compiled, *(ROUNDS * [eager, compiled]))


@pytest.mark.parametrize(
    ("eager", "compiled", "steps", "pays"),
    [
        (1.0, 0.8, 200, True),  # saves 40 s
        (1.0, 0.8, 100, False),  # saves 20 s
        (1.0, 0.97, 10_000, False),  # within the noise of a trial
        (1.0, 1.2, 10_000, False),
    ],
)
def test_compiled_modules_are_used_if_they_save_more_than_30_seconds_of_compilation(
    eager: float, compiled: float, steps: int, pays: bool, compilations: list[str]
) -> None:
    choice = try_small(timings(eager, compiled, 30.0), steps)
    assert (choice.compiled, choice.calls) == (pays, [CALL] if pays else [])
    assert choice.reason == f"{eager / compiled:.2f} times the eager speed after 30 s of compilation"
    assert compilations == [f"[[{ROWS}, 1, 4, 4]]"] * (2 + ROUNDS)


def test_a_short_run_tries_nothing(compilations: list[str]) -> None:
    choice = try_small(timings(1.0, 0.1, 0.0), 59)
    assert choice == Choice(False, "59 s of steps do not win back a compilation")
    assert compilations == []


def test_a_network_that_cannot_be_compiled_stays_eager(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def compile(function: Any, **options: Any) -> Any:
        raise RuntimeError("no C++ compiler\nand more")

    monkeypatch.setattr(torch, "compile", compile)
    monkeypatch.setenv(compilation.CACHE_VARIABLE, str(tmp_path))
    assert try_small(timings(1.0, 0.5, 1.0), 1000) == Choice(False, "the network cannot be compiled: no C++ compiler")


def test_only_training_calls_of_the_trial_are_compiled(compilations: list[str]) -> None:
    net = Softmax(1, (4, 4), 2)
    with compile_calls({"net": net}, {CALL}):
        net(torch.zeros(ROWS, 1, 4, 4))
        net(torch.zeros(ROWS + 1, 1, 4, 4))
        net.eval()
        net(torch.zeros(ROWS, 1, 4, 4))
        net.train()
    net(torch.zeros(ROWS, 1, 4, 4))
    assert compilations == [f"[[{ROWS}, 1, 4, 4]]"]


def refuse_trial() -> Choice:
    raise AssertionError("there must be no trial")


def test_a_run_keeps_its_choice(tmp_path: Path) -> None:
    assert choose(Peers(), tmp_path, 0, lambda: COMPILED) == COMPILED
    assert choose(Peers(), tmp_path, 0, refuse_trial) == COMPILED
    assert choose(Peers(), tmp_path, 70, refuse_trial) == COMPILED


def test_a_run_that_was_begun_eager_stays_eager(tmp_path: Path) -> None:
    for _ in range(2):
        assert not choose(Peers(), tmp_path, 70, refuse_trial).compiled


def test_a_damaged_choice_is_refused(tmp_path: Path) -> None:
    (tmp_path / CHOICE_FILE).write_text('{"compiled": 1, "reason": "", "calls": []}')
    with pytest.raises(Refusal, match=r"compile\.json: damaged .*delete its folder"):
        choose(Peers(), tmp_path, 0, refuse_trial)


def choose_on_rank_0(peers: Peers, folder: Path) -> None:
    choice = choose(peers, folder, 0, refuse_trial if peers.rank else lambda: COMPILED)
    assert peers.gather(choice.calls) == [[CALL], [CALL]]


def test_all_workers_follow_the_trial_of_one(tmp_path: Path) -> None:
    fork_workers(choose_on_rank_0, 2, tmp_path)


def test_a_short_fit_says_why_it_is_eager(digits: Path, tmp_path: Path) -> None:
    train, _ = feeds(digits)
    task = Classification(Softmax, partial(optimizers.sgd, lr=0.1))
    engine.fit(task, spec(digits), train, folder=tmp_path, epochs=1, batch=50, compile="auto")
    tags = {
        record.payload["name"]: record.payload["value"]
        for record in journal.read_records(tmp_path / "journal.log", "tag")
    }
    assert tags == {"fit.compile": "eager", "fit.compile.reason": "0 s of steps do not win back a compilation"}


# ------------------------------------------------------------------------------------------------ real compilations


def fit_compiled(peers: Peers, digits: Path, folder: Path, until: int | None = None) -> None:
    """Train a network with dropout and batch statistics in shards of 16, 16, 15 and 15 examples."""
    train, test = feeds(digits)
    options = {"epochs": 2, "batch": 62, "shards": 4, "log_every": 3, "checkpoint_seconds": 0.01, "compile": "auto"}
    engine.fit(tasks("resnet"), spec(digits), train, test, folder, peers, until, **options)


def fit_and_count(peers: Peers, *arguments: Any) -> None:
    """Train, and check that the worker with shards of 16 examples compiled something."""
    before = compilation._count_graphs()
    fit_compiled(peers, *arguments)
    assert peers.gather(compilation._count_graphs() > before)[0]


@pytest.mark.slow
def test_compiled_runs_write_the_same_bytes_on_any_workers_and_after_a_stop(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(compilation.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(compilation, "MIN_SECONDS", 0.0)
    monkeypatch.setattr(compilation, "MIN_SPEEDUP", 0.0)
    monkeypatch.setattr(loop, "run_trial", partial(run_trial, clock=timings(1.0, 0.1, 0.0)))
    folders = [tmp_path / name for name in ("one", "two", "stopped")]
    fork_workers(fit_and_count, 1, digits, folders[0])
    choice = (folders[0] / CHOICE_FILE).read_bytes()
    for folder in folders[1:]:
        folder.mkdir()
        (folder / CHOICE_FILE).write_bytes(choice)
    fork_workers(fit_and_count, 2, digits, folders[1])
    fork_workers(fit_and_count, 2, digits, folders[2], 7)
    fork_workers(fit_and_count, 1, digits, folders[2])
    expected = result(folders[0])
    assert [result(folder) for folder in folders[1:]] == [expected] * 2
    assert list((tmp_path / "cache").rglob("*.so"))
