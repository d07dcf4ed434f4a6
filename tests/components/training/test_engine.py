"""A fit writes the same bytes on any number of workers and after any interruption, on real networks."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from copy import deepcopy
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from components import optimizers, schedules
from components.augment.affine import RandomAffine
from components.errors import Refusal, Stopped
from components.models.lenet import LeNet
from components.models.resnet import ResNet
from components.models.softmax import Softmax
from components.runs import journal
from components.storage.feed import Feed
from components.storage.store import Store
from components.tasks.classification import Classification
from components.training import checkpoint, engine, meter, recorder
from components.training.peers import Peers, fork_workers
from components.training.task import Shard, Spec, State, Task
from pipelines.workers.training import read_spec

FIT = {"epochs": 2, "batch": 60, "shards": 4, "log_every": 3, "checkpoint_seconds": 0.01}


# options of each kind; together they cover every option that carries state from step to step
OPTIONS = {
    "lenet": {"clip": 1.0, "ema": 0.9},
    "resnet": {"clip": 1.0, "ema": 0.9, "keep": "best", "noise_scale": True},
    "patient": {"patience": 1, "epochs": 9, "evaluate_every": 2},
    "bfloat16": {"precision": "bfloat16", "accumulate": 2, "noise_scale": True},
}


def tasks(kind: str) -> Classification:
    if kind in ("lenet", "patient", "bfloat16"):  # bfloat16 convolutions are slow on most processors
        return Classification(LeNet, partial(optimizers.adamw, lr=0.003), augment=[partial(RandomAffine, degrees=10)])
    small = partial(ResNet, widths=[8, 16], blocks=1, stem="cifar", dropout=0.2)
    return Classification(small, partial(optimizers.sgd, lr=0.1, momentum=0.9), label_smoothing=0.1)


def feeds(digits: Path) -> tuple[Feed, Feed]:
    store = Store(digits / "prepared")
    return Feed(store.split("train")), Feed(store.split("test"))


def spec(digits: Path) -> Spec:
    return read_spec(str(digits / "prepared"), str(digits / "augmented"))


def run(peers: Peers, kind: str, digits: Path, folder: Path, until: int | None = None, **more: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    train, test = feeds(digits)
    options = FIT | {"schedule": partial(schedules.cosine, warmup=0.1)} | OPTIONS[kind]
    engine.fit(tasks(kind), spec(digits), train, test, folder, peers, until=until, **options, **more)


def run_sharded(peers: Peers, kind: str, digits: Path, folder: Path, until: int | None = None) -> None:
    run(peers, kind, digits, folder, until, moments="sharded")


def result(folder: Path) -> tuple[str, list]:
    """Return the digest of everything saved (weights, averages, optimiser state), and every metric line."""
    tensors, record = checkpoint.read_checkpoint(checkpoint.list_checkpoints(folder)[0])
    digest = hashlib.sha256(b"".join(k.encode() + tensors[k].numpy().tobytes() for k in sorted(tensors)))
    digest.update(json.dumps([record["step"], record["scalars"]], sort_keys=True).encode())
    return digest.hexdigest(), journal.read_metrics(folder)


@pytest.fixture(scope="module")
def undisturbed(digits: Path, tmp_path_factory: pytest.TempPathFactory):
    """Return a function kind -> the result of one undisturbed run in one forked process."""
    results: dict[str, tuple[str, list]] = {}

    def run_once(kind: str) -> tuple[str, list]:
        if kind not in results:
            folder = tmp_path_factory.mktemp(kind)
            fork_workers(run, 1, kind, digits, folder)
            results[kind] = result(folder)
        return results[kind]

    return run_once


@pytest.mark.parametrize("kind", ["lenet", "resnet", "bfloat16"])
def test_one_to_four_workers_write_the_same_bytes(kind: str, undisturbed, digits: Path, tmp_path: Path) -> None:
    assert len(undisturbed(kind)[1]) >= 6
    for size in (2, 3, 4):
        fork_workers(run, size, kind, digits, tmp_path / str(size))
        assert result(tmp_path / str(size)) == undisturbed(kind), f"{size} workers"


@pytest.mark.parametrize("kind", ["lenet", "resnet"])
def test_moments_sharded_over_workers_give_the_same_bytes(kind: str, undisturbed, digits: Path, tmp_path: Path) -> None:
    """Any number of workers goes on from the checkpoint of any other, sharded or not."""
    fork_workers(run_sharded, 2, kind, digits, tmp_path / "whole")
    assert result(tmp_path / "whole") == undisturbed(kind)
    for size, fit, stop in [(3, run_sharded, 3), (1, run, 8), (2, run_sharded, None)]:
        fork_workers(fit, size, kind, digits, tmp_path / "parts", stop)
    assert result(tmp_path / "parts") == undisturbed(kind)


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("stops", [(1, 13), (5, 8)])
def test_a_run_stopped_twice_ends_with_the_same_bytes(
    kind: str, stops: tuple, undisturbed, digits: Path, tmp_path: Path
) -> None:
    """The number of workers may change with each start."""
    for worker, stop in enumerate(stops):
        fork_workers(run, 1 + worker, kind, digits, tmp_path, stop)
    fork_workers(run, 1, kind, digits, tmp_path)
    assert result(tmp_path) == undisturbed(kind)


@pytest.mark.parametrize("kind", ["lenet", "patient"])
def test_a_run_stopped_before_every_step_ends_with_the_same_bytes(
    kind: str, undisturbed, digits: Path, tmp_path: Path
) -> None:
    steps = max(metrics.step for metrics in undisturbed(kind)[1])
    for stop in range(steps + 1):
        run(Peers(), kind, digits, tmp_path, stop)
    run(Peers(), kind, digits, tmp_path)
    assert result(tmp_path) == undisturbed(kind)


@pytest.mark.parametrize("kind", ["resnet", "patient"])
def test_a_finished_run_is_not_run_again(kind: str, digits: Path, tmp_path: Path) -> None:
    """This holds for runs that stopped early, too."""
    run(Peers(), kind, digits, tmp_path)
    before, newest = result(tmp_path), checkpoint.list_checkpoints(tmp_path)[0].stat().st_mtime_ns
    run(Peers(), kind, digits, tmp_path)
    assert result(tmp_path) == before
    assert checkpoint.list_checkpoints(tmp_path)[0].stat().st_mtime_ns == newest


def test_logging_the_noise_scale_changes_no_byte(undisturbed, digits: Path, tmp_path: Path, monkeypatch) -> None:
    digest, metrics = undisturbed("resnet")
    monkeypatch.setitem(OPTIONS, "resnet", {**OPTIONS["resnet"], "noise_scale": False})
    fork_workers(run, 1, "resnet", digits, tmp_path)
    others = deepcopy(metrics)
    scales = [m.values.pop("train/noise_scale") for m in others if "train/noise_scale" in m.values]
    assert result(tmp_path) == (digest, others)
    assert len(scales) >= 3
    assert min(scales) > 0


def test_another_seed_gives_other_bytes(digits: Path, tmp_path: Path) -> None:
    """The comparisons above are able to fail."""
    train, test = feeds(digits)
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        engine.fit(tasks("resnet"), spec(digits), train, test, tmp_path / str(seed), seed=seed, epochs=1, batch=100)
    assert result(tmp_path / "0")[0] != result(tmp_path / "1")[0]


def test_a_damaged_checkpoint_falls_back_and_ends_the_same(undisturbed, digits: Path, tmp_path: Path, caplog) -> None:
    run(Peers(), "lenet", digits, tmp_path, until=7)
    newest = checkpoint.list_checkpoints(tmp_path)[0] / "state.safetensors"
    blob = bytearray(newest.read_bytes())
    blob[len(blob) // 2] ^= 1
    newest.write_bytes(blob)
    run(Peers(), "lenet", digits, tmp_path)
    assert "damaged" in caplog.text
    assert result(tmp_path) == undisturbed("lenet")


def test_early_stopping_keeps_the_best_weights(digits: Path) -> None:
    train, test = feeds(digits)
    task = Classification(Softmax, partial(optimizers.sgd, lr=0.5, momentum=0.9))
    outcome = engine.fit(task, spec(digits), train, test, epochs=60, batch=50, patience=4)
    assert outcome.scores["accuracy"] > 0.85
    assert outcome.epochs < 60
    again, _ = engine.evaluate(task, outcome.state, test)
    assert again == outcome.scores


def lines(folder: Path, name: str) -> list[float]:
    """Return the values of one metric in a run's journal, in order."""
    return [metrics.values[name] for metrics in journal.read_metrics(folder) if name in metrics.values]


def test_early_stopping_follows_the_scores(digits: Path, tmp_path: Path) -> None:
    train, test = feeds(digits)
    task = Classification(Softmax, partial(optimizers.sgd, lr=2.0, momentum=0.9))
    outcome = engine.fit(task, spec(digits), train, test, tmp_path, epochs=40, batch=100, patience=3)
    scores = lines(tmp_path, "validation/accuracy")
    best = max(range(len(scores)), key=lambda epoch: (scores[epoch], -epoch))
    assert len(scores) == outcome.epochs == best + 1 + 3 < 40
    assert outcome.scores["accuracy"] == scores[best]


def test_epoch_means_and_rates_in_the_journal(digits: Path, tmp_path: Path) -> None:
    train, _ = feeds(digits)
    schedule = partial(schedules.cosine, warmup=0.2)
    engine.fit(tasks("lenet"), spec(digits), train, None, tmp_path, epochs=2, batch=60, schedule=schedule, log_every=1)
    losses, means = lines(tmp_path, "train/loss"), lines(tmp_path, "epoch/loss")
    assert means == pytest.approx([np.mean(losses[:8]), np.mean(losses[8:])], rel=1e-6)
    assert lines(tmp_path, "learning_rate") == pytest.approx([0.003 * schedule(step, 16) for step in range(16)])


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


def test_the_moving_average_follows_its_recurrence(digits: Path) -> None:
    train, test = feeds(digits)

    def after(steps: int, ema: float | None = None) -> tuple[State, dict]:
        fit = {"epochs": 1, "batch": 100, "until": steps, "ema": ema}
        state = engine.fit(tasks("lenet"), spec(digits), train, **fit).state
        return state, {name: value.double() for name, value in state.modules["net"].state_dict().items()}

    _, expected = after(0)
    for step in range(1, 5):
        _, weights = after(step)
        expected = {name: 0.8 * value + 0.2 * weights[name] for name, value in expected.items()}
    state, _ = after(4, ema=0.8)
    average = state.averages["net"].state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(average[name].double(), value, rtol=1e-5, atol=1e-7)
    assert (
        engine.evaluate(tasks_set_up(digits), state, test)[0]
        == engine.evaluate(tasks_set_up(digits), State(state.averages), test)[0]
    )


def tasks_set_up(digits: Path) -> Classification:
    """Return a task that knows the statistics of the pictures, as it does after `setup`."""
    task = tasks("lenet")
    task.setup(spec(digits))
    return task


@pytest.mark.parametrize("options", [{"precision": "bfloat16"}, {"channels_last": False}])
def test_other_precisions_and_layouts_learn_too(options: dict, digits: Path) -> None:
    train, test = feeds(digits)
    schedule = partial(schedules.cosine, warmup=0.1)
    outcome = engine.fit(tasks("lenet"), spec(digits), train, test, epochs=24, batch=25, schedule=schedule, **options)
    assert outcome.scores["accuracy"] > 0.7


@pytest.mark.slow
def test_a_compiled_network_learns_the_same(digits: Path, tmp_path: Path) -> None:
    train, test = feeds(digits)
    scores = [
        engine.fit(tasks("resnet"), spec(digits), train, test, epochs=2, batch=50, ema=0.9, compile=compile).scores
        for compile in (False, True)
    ]
    assert scores[0]["loss"] == pytest.approx(scores[1]["loss"], rel=0.2)


def test_evaluation_neither_augments_nor_changes_the_state(digits: Path) -> None:
    train, test = feeds(digits)
    task = tasks("lenet")
    outcome = engine.fit(task, spec(digits), train, epochs=1, batch=100)
    before = {k: v.clone() for k, v in checkpoint.pack_state(outcome.state)[0].items()}
    first, first_predictions = engine.evaluate(task, outcome.state, test)
    second, second_predictions = engine.evaluate(task, outcome.state, test)
    assert first == second
    assert np.array_equal(first_predictions["probability"], second_predictions["probability"])
    assert all(torch.equal(v, before[k]) for k, v in checkpoint.pack_state(outcome.state)[0].items())


def test_a_diverging_run_stops_with_the_step_and_a_remedy(digits: Path, tmp_path: Path) -> None:
    train, test = feeds(digits)
    task = Classification(partial(ResNet, widths=[8], blocks=1, stem="cifar"), partial(optimizers.sgd, lr=1e18))
    with pytest.raises(Refusal, match=r"step \d+: the loss became (nan|inf).*learning rate"):
        engine.fit(task, spec(digits), train, test, tmp_path, epochs=3, batch=50, log_every=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 2, "shards": 4}, "smaller than fit.shards"),
        ({"batch": 501}, "larger than the 500"),
        ({"patience": 2}, "validation"),
        ({"keep": "best"}, "validation"),
        ({"noise_scale": True}, "fit.noise_scale.*set fit.shards to 2"),
        ({"peers": Peers(rank=0, size=3), "shards": 2}, "3 workers but fit.shards is 2"),
    ],
)
def test_impossible_settings_are_refused(options: dict, message: str, digits: Path) -> None:
    with pytest.raises(Refusal, match=message):
        engine.fit(tasks("lenet"), spec(digits), feeds(digits)[0], **options)


class Counting(Task):
    """A task without modules or gradients that counts labels into a table."""

    def setup(self, spec: Spec) -> State:
        return State(tables={"counts": np.zeros(10, dtype=np.int64)})

    def step(self, state: State, update) -> dict:
        update.tally(lambda state, shard: {"counts": np.bincount(shard.batch["label"].numpy(), minlength=10)})
        return {}

    def finish(self, state: State, over) -> None:
        state.tables["rows"] = np.concatenate(over(lambda batch: batch["row"].numpy()))


def count(peers: Peers, digits: Path, folder: Path, until: int | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    engine.fit(
        Counting(), spec(digits), feeds(digits)[0], None, folder, peers, until=until, epochs=3, batch=50, shards=2
    )


def test_a_task_without_gradients_distributes_and_resumes(digits: Path, tmp_path: Path) -> None:
    for size in (1, 2):
        fork_workers(count, size, digits, tmp_path / str(size))
    fork_workers(count, 2, digits, tmp_path / "cut", 17)
    fork_workers(count, 1, digits, tmp_path / "cut")
    expected = 3 * np.bincount(feeds(digits)[0].column("label"), minlength=10)
    for name in ("1", "2", "cut"):
        tensors, _ = checkpoint.read_checkpoint(checkpoint.list_checkpoints(tmp_path / name)[0])
        assert np.array_equal(tensors["tables/counts"].numpy(), expected)
        assert np.array_equal(tensors["tables/rows"].numpy(), np.arange(500)), "finish sees each batch once, in order"
    shutil.rmtree(tmp_path / "cut")


class TwoPlayers(Task):
    """A task shaped like a GAN: two modules, two optimisers, several updates per step."""

    def setup(self, spec: Spec) -> State:
        modules = {"a": torch.nn.Linear(1, 1), "b": torch.nn.Linear(1, 1)}
        rates = {"a": 0.1, "b": 0.01}
        return State(modules, optimizers={n: torch.optim.SGD(m.parameters(), rates[n]) for n, m in modules.items()})

    def play(self, name: str):
        def loss(state: State, shard: Shard) -> tuple[torch.Tensor, dict]:
            noise = torch.randn(len(shard.batch["label"]), 1, generator=shard.generator)
            return (state.modules["b"](state.modules["a"](noise)) - 1).square().mean() * (1 if name == "a" else -1), {}

        return loss

    def step(self, state: State, update) -> dict:
        for _ in range(2):
            metrics = update("b", self.play("b"))
        return metrics | update("a", self.play("a"))


def two_players(peers: Peers, digits: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    engine.fit(TwoPlayers(), spec(digits), feeds(digits)[0], None, folder, peers, epochs=1, batch=50, shards=2)


def test_two_modules_in_turns_give_the_same_bytes_on_two_workers(digits: Path, tmp_path: Path) -> None:
    for size in (1, 2):
        fork_workers(two_players, size, digits, tmp_path / str(size))
    assert result(tmp_path / "1") == result(tmp_path / "2")


class Remembering(Task):
    """A task whose carried state is the sum of all labels in this epoch, for each element of the batch."""

    def setup(self, spec: Spec) -> State:
        net = torch.nn.Linear(1, 1)
        return State({"net": net}, optimizers={"net": torch.optim.SGD(net.parameters(), 1e-6)})

    def loss(self, state: State, shard: Shard) -> tuple[torch.Tensor, dict]:
        total = shard.carry.get("total", torch.zeros(len(shard.batch["label"]))) + shard.batch["label"]
        shard.carry["total"] = total.detach()
        return (state.modules["net"](total[:, None]) - 1).square().mean(), {"total": total.mean()}


def remember(peers: Peers, digits: Path, folder: Path, until: int | None = None, accumulate: int = 1) -> None:
    folder.mkdir(exist_ok=True)
    options = {"epochs": 2, "batch": 50, "shards": 4, "order": "sequential", "log_every": 1, "checkpoint_seconds": 1e-9}
    train = feeds(digits)[0]
    engine.fit(Remembering(), spec(digits), train, None, folder, peers, until, accumulate=accumulate, **options)


def test_carried_state_continues_within_an_epoch_on_any_worker(digits: Path, tmp_path: Path) -> None:
    """The run stops within the first epoch on two workers, within the second on four, and ends on one."""
    fork_workers(remember, 1, digits, tmp_path / "undisturbed")
    for size, until in ((2, 4), (4, 13), (1, None)):
        fork_workers(remember, size, digits, tmp_path / "parts", until)
    assert result(tmp_path / "parts") == result(tmp_path / "undisturbed")
    totals = [m.values["train/total"] for m in result(tmp_path / "undisturbed")[1] if "train/total" in m.values]
    labels = feeds(digits)[0].column("label").reshape(50, 10).mean(0)
    assert totals == pytest.approx([*np.cumsum(labels), *np.cumsum(labels)], rel=1e-5), "begins again in each epoch"


def test_carried_state_is_split_into_microbatches_like_its_batch(digits: Path, tmp_path: Path) -> None:
    fork_workers(remember, 1, digits, tmp_path / "undisturbed")
    fork_workers(remember, 1, digits, tmp_path / "cut", None, 3)
    kinds = [[m.values.get("train/total") for m in result(tmp_path / name)[1]] for name in ("undisturbed", "cut")]
    assert kinds[0] == pytest.approx(kinds[1])


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


class Crowned(Classification):
    """A task whose `finish` changes every prediction."""

    def finish(self, state: State, over) -> None:
        with torch.no_grad():
            state.modules["net"].head.bias[3] += 100


@pytest.mark.parametrize("keep", ["last", "best"])
def test_scores_are_those_after_finish(keep: str, digits: Path, tmp_path: Path) -> None:
    """The scores of a fit, and the last line of its journal, are those of the exported model."""
    task, (train, test) = Crowned(Softmax, partial(optimizers.sgd, lr=0.1)), feeds(digits)
    options = {"epochs": 2, "batch": 50, "keep": keep}
    outcomes = [engine.fit(task, spec(digits), train, test, tmp_path, **options) for _ in range(2)]
    scores, predictions = engine.evaluate(task, outcomes[0].state, test)
    assert set(predictions["label"]) == {3}
    assert outcomes[0].scores == outcomes[1].scores == scores
    assert journal.read_metrics(tmp_path)[-1].values == {f"validation/{name}": value for name, value in scores.items()}


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


def test_a_few_examples_repeat_until_the_epoch_is_as_long(digits: Path) -> None:
    """Train on the first 70 examples and count how often each is used in an epoch."""
    train, test = feeds(digits)
    seen_rows: list[np.ndarray] = []

    class Recording(Classification):
        def loss(self, state: State, shard: Shard):
            seen_rows.append(shard.batch["row"].numpy())
            return super().loss(state, shard)

    task = Recording(LeNet, partial(optimizers.sgd, lr=0.01))
    engine.fit(task, spec(digits), train, test, batch=50, epochs=1, examples=70)
    rows = np.concatenate(seen_rows)
    assert len(rows) == len(train) // 50 * 50
    counts = np.bincount(rows, minlength=len(train))
    assert counts[70:].sum() == 0
    assert counts[:70].min() >= len(train) // 70 - 50
    with pytest.raises(Refusal, match=r"fit\.examples: 100000 are more than the"):
        engine.fit(task, spec(digits), train, test, examples=100_000)
