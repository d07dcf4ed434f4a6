"""An update over shards agrees with torch on the global batch, on any number of workers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from components.training.peers import Peers, fork_workers
from components.training.task import State
from components.training.update import ShardedUpdate
from tests.components.training.linear_problem import batches, linear_state, squared, token_mean


@pytest.mark.parametrize("sizes", [[8], [3, 3, 2], [2, 2, 2, 2]])
def test_unequal_shards_give_the_gradient_of_the_global_batch(sizes: list[int]) -> None:
    sharded, reference = linear_state(), linear_state()
    update = ShardedUpdate(sharded, Peers(), shards=len(sizes))
    parts = batches(sizes)
    update.begin(parts, sizes)
    metrics = update("net", squared)
    x, y = torch.cat([p["x"] for p in parts]), torch.cat([p["y"] for p in parts])
    loss = (reference.modules["net"](x)[:, 0] - y).square().mean()
    loss.backward()
    reference.optimizers["net"].step()
    torch.testing.assert_close(metrics["loss"], loss.detach())
    torch.testing.assert_close(sharded.modules["net"].weight, reference.modules["net"].weight)


def clip_with_torch(parameters: list[nn.Parameter], clip: float | None, clip_by: str) -> torch.Tensor:
    """Clip gradients by torch's functions and return their norm before."""
    norm = torch.cat([p.grad.flatten() for p in parameters]).norm()
    if clip is not None and clip_by == "norm":
        nn.utils.clip_grad_norm_(parameters, clip)
    elif clip is not None and clip_by == "value":
        nn.utils.clip_grad_value_(parameters, clip)
    return norm


@pytest.mark.parametrize(
    ("clip", "clip_by"), [(None, "norm"), (0.1, "norm"), (100.0, "norm"), (0.1, "value"), (0.1, "none")]
)
def test_accumulation_and_clipping_agree_with_torch(clip: float | None, clip_by: str) -> None:
    sharded, reference = linear_state(), linear_state()
    update = ShardedUpdate(sharded, Peers(), shards=2, accumulate=3, clip=clip, clip_by=clip_by)
    parts = batches([5, 5])
    update.begin(parts, [5, 5])
    norm = update("net", squared)["gradient_norm"]
    x, y = torch.cat([p["x"] for p in parts]), torch.cat([p["y"] for p in parts])
    (reference.modules["net"](x)[:, 0] - y).square().mean().backward()
    expected = clip_with_torch(list(reference.modules["net"].parameters()), clip, clip_by)
    reference.optimizers["net"].step()
    torch.testing.assert_close(norm, expected)
    torch.testing.assert_close(sharded.modules["net"].weight, reference.modules["net"].weight)


@pytest.mark.parametrize("accumulate", [1, 3, 8])
@pytest.mark.parametrize("sizes", [[12], [6, 6], [5, 4, 3]])
def test_a_mean_over_tokens_is_one_over_all_tokens_of_the_step(sizes: list[int], accumulate: int) -> None:
    """Some microbatches have no tokens at all; they must not count, and their mean of nothing must not become nan."""
    sharded, reference = linear_state(), linear_state()
    update = ShardedUpdate(sharded, Peers(), shards=len(sizes), accumulate=accumulate)
    parts = batches([12])
    ends = np.cumsum(sizes)
    update.begin(
        [{k: v[end - n : end] for k, v in parts[0].items()} for n, end in zip(sizes, ends, strict=True)], sizes
    )
    metrics = update("net", token_mean)
    expected = reference.modules["net"](parts[0]["x"])[parts[0]["y"] > 0].square().mean()
    expected.backward()
    reference.optimizers["net"].step()
    torch.testing.assert_close(metrics["loss"], expected.detach())
    torch.testing.assert_close(sharded.modules["net"].weight, reference.modules["net"].weight)
    assert update.weight == (parts[0]["y"] > 0).sum()


@pytest.mark.parametrize("shards", [1, 2])
def test_a_step_without_tokens_changes_nothing(shards: int) -> None:
    state = linear_state()
    update = ShardedUpdate(state, Peers(), shards=shards, accumulate=2)
    before = state.modules["net"].weight.clone()
    update.begin([{"x": torch.ones(4, 3), "y": -torch.ones(4)}] * shards, [4] * shards)
    assert update("net", token_mean)["loss"] == 0
    assert torch.equal(state.modules["net"].weight, before)


def _weighted_step(peers: Peers, folder: Path) -> None:
    """Do a step on shards of three sizes with different numbers of tokens; save the weights."""
    state = linear_state()
    update = ShardedUpdate(state, peers, shards=3, accumulate=2)
    update.begin([batches([5, 4, 3])[index] for index in update.own_shards], [5, 4, 3])
    metrics = update("net", token_mean)
    assert update.weight is not None
    torch.save([state.modules["net"].weight, metrics["loss"], update.weight], folder / f"{peers.size}-{peers.rank}")


def test_weights_are_summed_over_the_same_tree_on_any_number_of_workers(tmp_path: Path) -> None:
    for size in (1, 2, 3):
        fork_workers(_weighted_step, size, tmp_path)
    results = [torch.load(file) for file in sorted(tmp_path.iterdir())]
    assert len(results) == 6
    assert all(torch.equal(mine, first) for result in results for mine, first in zip(result, results[0], strict=True))


def test_batch_statistics_are_the_mean_over_shards() -> None:
    net = nn.BatchNorm1d(3, momentum=0.1)
    state = State(modules={"net": net}, optimizers={"net": torch.optim.SGD(net.parameters(), 0.1)})
    update = ShardedUpdate(state, Peers(), shards=2)
    parts = batches([6, 6])
    update.begin(parts, [6, 6])
    update("net", lambda s, shard: (s.modules["net"](shard.batch["x"]).square().mean(), {}))
    expected = 0.1 * torch.stack([p["x"].mean(0) for p in parts]).mean(0)
    torch.testing.assert_close(net.running_mean, expected)
    assert net.num_batches_tracked == 1


def test_only_the_named_module_moves_and_gets_gradients() -> None:
    """The generator step of a GAN runs through the discriminator but must not change it."""
    g, d = nn.Linear(3, 3), nn.Linear(3, 1)
    modules = {"g": g, "d": d}
    state = State(modules, optimizers={n: torch.optim.SGD(m.parameters(), 1.0) for n, m in modules.items()})
    update = ShardedUpdate(state, Peers())
    update.begin(batches([4]), [4])
    before = d.weight.clone()
    update("g", lambda s, shard: (s.modules["d"](s.modules["g"](shard.batch["x"])).mean(), {}))
    assert torch.equal(d.weight, before)
    assert d.weight.grad is None


def test_two_calls_within_a_step_draw_different_numbers() -> None:
    state = linear_state()
    pairs = []
    update = ShardedUpdate(state, Peers())
    update.begin(batches([4]), [4])

    def noisy(s: State, shard) -> list[torch.Tensor]:
        pairs.append((torch.rand(1).item(), torch.rand(1, generator=shard.generator).item()))
        return [torch.zeros(1)]

    update.mean(noisy)
    update.mean(noisy)
    assert len({value for pair in pairs for value in pair}) == 4


def test_tables_are_added_in_the_order_of_shards() -> None:
    state = State()
    update = ShardedUpdate(state, Peers(), shards=2)
    update.begin(batches([2, 2]), [2, 2])
    for _ in range(2):
        update.tally(lambda s, shard: {"rows": np.array([len(shard.batch["x"]), shard.index])})
    assert state.tables["rows"].tolist() == [8, 2]


def test_gradients_that_autograd_shares_between_parameters_are_separated() -> None:
    """The gradient of a + b is one tensor for both, and expanded; scaling it in place would scale it twice."""

    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))

    net = Sum()
    state = State(modules={"net": net}, optimizers={"net": torch.optim.SGD(net.parameters(), 1.0)})
    update = ShardedUpdate(state, Peers(), shards=2)
    update.begin(batches([4, 4]), [4, 4])
    update("net", lambda s, shard: ((s.modules["net"].a + s.modules["net"].b).sum(), {"a": s.modules["net"].a[0]}))
    assert net.a.tolist() == net.b.tolist() == [0.0, 0.0, 0.0]
