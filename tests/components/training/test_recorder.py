"""A run saves and stops when it is asked to, and records its speed and the hardware that it resumes on."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from components import optimizers
from components.errors import Stopped
from components.models.lenet import LeNet
from components.models.softmax import Softmax
from components.runs import journal
from components.tasks.classification import Classification
from components.training import checkpoint, engine, meter, recorder
from components.training.peers import Peers, fork_workers
from components.training.task import State
from tests.components.training.small_fits import FIT, feeds, result, run, spec


class Drawing(Classification):
    """A task whose steps take 1 second, its evaluations 10 and its pictures 100, on a clock of its own."""

    clock = SimpleNamespace(now=0.0, monotonic=lambda: Drawing.clock.now)
    album = True

    def spend(self, seconds: float) -> None:
        self.clock.now += seconds

    def step(self, state: State, update) -> dict:
        self.spend(1)
        return super().step(state, update)

    def score(self, *arguments) -> dict:
        self.spend(10)
        return super().score(*arguments)

    def draw(self, *arguments) -> dict:
        self.spend(100)
        return {}


def test_the_speed_counts_steps_alone(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, check = checkpoint.write_checkpoint, checkpoint.check_free_space
    task = Drawing(Softmax, partial(optimizers.sgd, lr=0.1))
    monkeypatch.setattr(meter, "time", task.clock)
    monkeypatch.setattr(recorder, "time", task.clock)
    monkeypatch.setattr(checkpoint, "write_checkpoint", lambda *arguments: (task.spend(1000), write(*arguments)))
    monkeypatch.setattr(checkpoint, "check_free_space", lambda *arguments: (task.spend(10000), check(*arguments)))
    train, test = feeds(digits)
    engine.fit(task, spec(digits), train, test, tmp_path, **FIT)
    speeds = [r.payload["speed"] for r in journal.read_records(tmp_path / journal.LOG, "progress")]
    assert len(speeds) >= 4
    assert speeds == pytest.approx([FIT["batch"]] * len(speeds))


class _AsksToStop(Classification):
    """A task during whose tenth step somebody asks the run to stop."""

    def step(self, state: State, update) -> dict:
        if state.step == 9 and not (self.folder / "again").exists():
            (self.folder.parent / journal.STOP).touch()
        return super().step(state, update)


def ask_to_stop(peers: Peers, digits: Path, folder: Path) -> None:
    task = _AsksToStop(LeNet, partial(optimizers.adamw, lr=0.003))
    task.folder = folder
    folder.mkdir(parents=True, exist_ok=True)
    train, test = feeds(digits)
    engine.fit(task, spec(digits), train, test, folder, peers, **FIT | {"checkpoint_seconds": 1e9})


def test_a_run_asked_to_stop_saves_and_resumes_there(digits: Path, tmp_path: Path) -> None:
    run, stop = tmp_path / "stage" / "fit", tmp_path / "stage" / journal.STOP
    with pytest.raises(Stopped, match="step 12 of"):  # the next line of the journal
        ask_to_stop(Peers(), digits, run)
    _, record = checkpoint.read_checkpoint(checkpoint.list_checkpoints(run)[0])
    assert record["step"] == 12, "although no checkpoint was due"
    stop.unlink()
    (run / "again").touch()
    fork_workers(ask_to_stop, 2, digits, run)
    undisturbed = tmp_path / "undisturbed" / "fit"
    undisturbed.mkdir(parents=True)
    (undisturbed / "again").touch()
    fork_workers(ask_to_stop, 1, digits, undisturbed)
    assert result(run) == result(undisturbed)


def test_a_run_asked_to_save_does_so_once(tmp_path: Path) -> None:
    """This also holds after a resume from the checkpoint before a damaged one, which has a higher number."""
    (tmp_path / journal.SAVE).touch()
    run = recorder.RunRecorder(tmp_path, Peers(), checkpoint_seconds=1e9)
    assert run.requests() == (True, False)
    for step, age in ((120, 100), (110, -100)):
        path = checkpoint.write_checkpoint(tmp_path, State(step=step), {})
        asked_at = (tmp_path / journal.SAVE).stat().st_mtime
        os.utime(path, (asked_at - age, asked_at - age))
        assert run.requests() == (step == 120, False)


def test_a_resume_on_other_hardware_is_recorded(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same threads and processor, and a checkpoint that does not tell them, are resumed without a word."""
    names = iter(["1 thread on A", "1 thread on A", "2 threads on A", "2 threads on B", "1 thread on A"])
    monkeypatch.setattr(recorder, "describe_processor", lambda device: next(names))

    def resumes(until: int) -> list[tuple[int, list[str], list[str]]]:
        run(Peers(), "lenet", digits, tmp_path, until)
        lines = journal.Tail(tmp_path / journal.LOG).read_new()
        payloads = [line.payload for line in lines if line.kind == journal.RESUME]
        return [(payload["step"], payload["before"], payload["now"]) for payload in payloads]

    assert resumes(until=1) == []
    assert resumes(until=4) == []
    assert resumes(until=7) == [(4, ["1 thread on A"], ["2 threads on A"])]
    write = checkpoint.write_checkpoint

    def write_as_before(folder: Path, state: State, progress: dict, extra: dict) -> Path:
        return write(folder, state, {name: value for name, value in progress.items() if name != "hardware"}, extra)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_checkpoint", write_as_before)
        assert resumes(until=10)[1:] == [(7, ["2 threads on A"], ["2 threads on B"])]
    assert len(resumes(until=13)) == 2
    assert len(journal.read_metrics(tmp_path)) == len({(m.step, *m.values) for m in journal.read_metrics(tmp_path)})


def test_threads_and_processor_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    name = recorder.describe_processor(torch.device("cpu"))
    assert name.startswith("1 thread on ")
    assert len(name) > len("1 thread on ")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert recorder.describe_processor(torch.device("cpu")).startswith("2 threads on ")
