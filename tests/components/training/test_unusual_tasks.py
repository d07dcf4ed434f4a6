"""Tasks without gradients, with several modules or with carried state write the same bytes on any worker, too."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from components.training import checkpoint, engine
from components.training.peers import Peers, fork_workers
from components.training.task import Shard, Spec, State, Task
from tests.components.training.small_fits import feeds, result, spec


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
