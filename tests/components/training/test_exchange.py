"""The ways to exchange gradients: whole, in buckets during the backward pass, or as sharded moments; the same bytes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from components import optimizers
from components.training.buckets import GradientBuckets, fill_buckets
from components.training.moments import MAX_IMBALANCE, MIN_PARAMETERS, assign_owners, shard_moments
from components.training.peers import Peers, fork_workers
from components.training.task import Shard, State
from components.training.update import ShardedUpdate

SHARDS, STEPS = 4, 3


class Net(nn.Module):
    """A network with batch statistics, a parameter used twice, one not used, and more than one bucket."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.wide, self.twice, self.last = nn.Linear(512, 600), nn.Linear(600, 600), nn.Linear(600, 5)
        self.unused = nn.Parameter(torch.ones(7))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        hidden = self.wide(self.norm(self.first(image)).flatten(1)).relu()
        return self.last(self.twice(self.twice(hidden).relu()))


def new_state(optimizer: str) -> State:
    torch.manual_seed(0)
    net = Net().to(memory_format=torch.channels_last)
    options = {"sgd": {"momentum": 0.9, "lr": 0.01}}.get(optimizer, {"lr": 0.001})
    return State({"net": net}, optimizers={"net": getattr(optimizers, optimizer)(net.parameters(), **options)})


def loss(state: State, shard: Shard) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    out = state.modules["net"](shard.batch["image"])
    return nn.functional.cross_entropy(out, shard.batch["label"]), {"mean": out.detach().mean()}


def weighted(state: State, shard: Shard) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return a mean over the examples of the first three classes alone, of which a shard may have none."""
    out, label = state.modules["net"](shard.batch["image"]), shard.batch["label"]
    in_first_three = label < 3
    shard.weight = in_first_three.sum()
    return nn.functional.cross_entropy(out, label, reduction="none")[in_first_three].sum() / shard.weight.clamp(
        min=1
    ), {}


def train(peers: Peers, optimizer: str, function, moments: str, shares_memory: bool) -> str:
    """Return a digest of parameters, moments and metrics after a few steps."""
    peers.shares_memory = shares_memory
    state = new_state(optimizer)
    update = ShardedUpdate(state, peers, shards=SHARDS, clip=1.0, moments=moments)
    generator, metrics = torch.Generator().manual_seed(1), []
    for _ in range(STEPS):
        batches = [
            {
                "image": torch.randn(4, 3, 8, 8, generator=generator),
                "label": torch.randint(5, (4,), generator=generator),
            }
            for _ in range(SHARDS)
        ]
        update.begin([batches[i] for i in update.own_shards], [4] * SHARDS)
        metrics.append({name: value.item() for name, value in update("net", function).items()})
    digest = hashlib.sha256(json.dumps(metrics).encode())
    held = len(state.optimizers["net"].state)
    assert (held < len(list(state.modules["net"].parameters()))) == (moments == "sharded" and peers.size > 1)
    with update.all_moments():
        for value in [*state.modules["net"].state_dict().values()]:
            digest.update(value.numpy().tobytes())
        for parameter in state.modules["net"].parameters():
            for _, value in sorted(state.optimizers["net"].state[parameter].items()) if peers.rank == 0 else ():
                digest.update(value.numpy().tobytes())
    return digest.hexdigest()


WAYS = [("replicated", True), ("replicated", False), ("sharded", True), ("sharded", False)]
CASES = [("sgd", loss), ("adam", weighted), ("adamw", loss)]


def train_every_way(peers: Peers, folder: Path) -> None:
    starts = []
    backward = GradientBuckets.backward
    GradientBuckets.backward = lambda *arguments: (starts.append(1), backward(*arguments))[1]
    results = [[train(peers, *case, moments, shares_memory) for moments, shares_memory in WAYS] for case in CASES]
    if peers.rank == 0:
        (folder / f"{peers.size}.json").write_text(json.dumps([results, len(starts)]))


def test_every_exchange_gives_the_bytes_of_one_worker(tmp_path: Path) -> None:
    for size in (1, 2, 3):
        fork_workers(train_every_way, size, tmp_path)
    outcomes = {size: json.loads((tmp_path / f"{size}.json").read_text()) for size in (1, 2, 3)}
    overlapping = {size: steps for size, (_, steps) in outcomes.items()}
    assert overlapping[1] == 0
    # each worker has two shards of the same shapes; the first shows that they fit into memory, the second overlaps
    assert overlapping[2] == len(CASES) * STEPS
    for digests in zip(*(results for results, _ in outcomes.values()), strict=True):
        assert len({digest for of_size in digests for digest in of_size}) == 1


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 60))
def test_buckets_hold_every_parameter_once_and_the_last_first(sizes: list[int], limit: int) -> None:
    buckets = fill_buckets(sizes, limit)
    assert [index for bucket in buckets for index in bucket] == list(reversed(range(len(sizes))))
    assert all(sum(sizes[i] for i in bucket) <= limit or len(bucket) == 1 for bucket in buckets)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 8))
def test_no_worker_owns_more_than_an_equal_part_and_one_parameter(sizes: list[int], workers: int) -> None:
    owners = assign_owners(sizes, workers)
    loads = [sum(s for s, owner in zip(sizes, owners, strict=True) if owner == w) for w in range(workers)]
    assert sum(loads) == sum(sizes)
    assert max(loads) <= sum(sizes) / workers + max(sizes)


@pytest.mark.parametrize(
    ("shapes", "is_sharded"),
    [
        ([(2**21,), (2**21,)], True),
        ([(2**21,), (2**21 - 1,)], False),
        ([(2**23,), (2**20,)], False),
        ([(5 * 2**20,), (3 * 2**20,)], True),
        ([(5 * 2**20 + 8,), (3 * 2**20,)], False),
    ],
    ids=["large", "small", "one is most of it", "on the limit of imbalance", "above it"],
)
def test_auto_shards_large_and_even_modules(shapes: list[tuple[int]], is_sharded: bool) -> None:
    assert (MIN_PARAMETERS, MAX_IMBALANCE) == (2**22, 1.25)
    parameters = [nn.Parameter(torch.empty(shape)) for shape in shapes]
    assert (shard_moments(parameters, Peers(rank=0, size=2), "auto") is not None) == is_sharded
    assert shard_moments(parameters, Peers(rank=0, size=2), "replicated") is None
