"""Shards are cut into microbatches where memory is short; each has random numbers of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from components.errors import Refusal
from components.training.microbatches import stream_seed
from components.training.peers import Peers, fork_workers
from components.training.task import State
from components.training.update import ShardedUpdate
from tests.components.training.linear_problem import batches, linear_state, token_mean


def test_streams_differ_by_seed_step_shard_and_draw() -> None:
    keys = {stream_seed(*key) for key in np.ndindex(4, 4, 4, 4)}
    assert len(keys) == 4**4


def test_halving_the_microbatch_for_lack_of_memory_keeps_a_mean_over_tokens() -> None:
    states = [linear_state(), linear_state()]
    for state, most in zip(states, (12, 2), strict=True):

        def hungry(s: State, shard, most: int = most) -> tuple[torch.Tensor, dict]:
            if len(shard.batch["x"]) > most:
                raise torch.OutOfMemoryError
            return token_mean(s, shard)

        update = ShardedUpdate(state, Peers())
        update.begin(batches([12]), [12])
        update("net", hungry)
    torch.testing.assert_close(*(state.modules["net"].weight for state in states))


def _starved(peers: Peers) -> None:
    """Do a step in a process with little address space: a real allocation fails, the step succeeds."""
    import resource

    net = nn.Linear(3, 1)
    state = State(modules={"net": net}, optimizers={"net": torch.optim.SGD(net.parameters(), 0.1)})
    update = ShardedUpdate(state, peers)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20), used + (256 << 20)))
    update.begin(batches([64]), [64])

    def hungry(s: State, shard) -> tuple[torch.Tensor, dict]:
        rows = len(shard.batch["x"])
        room = torch.empty(rows, 10 << 20, dtype=torch.uint8)  # 10 MiB per example, 640 MiB for the batch
        return s.modules["net"](shard.batch["x"]).mean() + 0 * room[0, 0], {}

    update("net", hungry)
    assert next(iter(update.runner.reduced.values())) in (4, 8, 16), update.runner.reduced


def test_running_out_of_memory_halves_the_microbatch() -> None:
    fork_workers(_starved, 1)


def test_halved_microbatches_apply_to_shards_of_the_same_shapes_alone() -> None:
    """Otherwise the result would depend on a worker's earlier shards, and on where a run was interrupted."""
    state = linear_state()
    update = ShardedUpdate(state, Peers(), shards=2)
    sizes = []

    def hungry(s: State, shard) -> tuple[torch.Tensor, dict]:
        rows = len(shard.batch["x"])
        sizes.append(rows)
        if rows > 4:
            raise MemoryError
        return s.modules["net"](shard.batch["x"]).mean(), {}

    for _ in range(2):
        update.begin(batches([8, 3]), [8, 3])
        update("net", hungry)
    assert sizes == [8, 4, 4, 3, 4, 4, 3]


def test_a_shard_with_one_value_per_channel_is_refused() -> None:
    """The refusal quotes torch's own error, the same for every batch normalisation."""
    net = nn.BatchNorm1d(3)
    state = State(modules={"net": net}, optimizers={"net": torch.optim.SGD(net.parameters(), 0.1)})
    update = ShardedUpdate(state, Peers(), shards=2)
    update.begin(batches([2, 1]), [2, 1])
    with pytest.raises(Refusal, match=r"more than 1 value per channel.*raise fit.batch, or lower fit.shards"):
        update("net", lambda s, shard: (s.modules["net"](shard.batch["x"]).square().sum(), {}))


@pytest.mark.parametrize("options", [{"accumulate": 8}, {}])
def test_a_microbatch_with_one_value_per_channel_is_refused_with_its_own_remedy(options: dict) -> None:
    """A larger batch would not help, whether microbatches were asked for or follow from a lack of memory."""
    net = nn.BatchNorm1d(3)
    state = State(modules={"net": net}, optimizers={"net": torch.optim.SGD(net.parameters(), 0.1)})
    update = ShardedUpdate(state, Peers(), **options)
    update.begin(batches([8]), [8])

    def hungry(s: State, shard) -> tuple[torch.Tensor, dict]:
        if len(shard.batch["x"]) > 1:
            raise MemoryError
        return s.modules["net"](shard.batch["x"]).square().sum(), {}

    with pytest.raises(Refusal, match=r"8 microbatches per shard, one has a single example: lower fit\.accumulate or"):
        update("net", hungry)
