"""Sums over shards: their shape depends on the number of shards alone, and they agree with torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from components.errors import Refusal
from components.training.meter import Meter
from components.training.microbatches import stream_seed
from components.training.noise_scale import BATCH_GRADIENT, SHARD_GRADIENT, NoiseScale
from components.training.peers import Peers, fork_workers
from components.training.task import State
from components.training.tree import Tree, complete_subtrees, owned_shards
from components.training.update import ShardedUpdate


def nested(shards: int) -> str:
    tree = Tree(lambda earlier, later: f"({earlier}{later})")
    for shard in range(shards):
        tree.push(shard, 0, str(shard))
    return tree.total()


def test_the_tree_splits_at_powers_of_two() -> None:
    assert nested(1) == "0"
    assert nested(4) == "((01)(23))"
    assert nested(7) == "(((01)(23))((45)6))"


@given(st.integers(1, 9), st.data())
def test_any_number_of_workers_builds_the_same_tree(shards: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, shards))
    complete = Tree(lambda earlier, later: f"({earlier}{later})")
    for rank in range(size):
        local = Tree(lambda earlier, later: f"({earlier}{later})")
        for shard in owned_shards(shards, size, rank):
            local.push(shard, 0, str(shard))
        assert [(start, level) for start, level, _ in local.blocks] == complete_subtrees(
            owned_shards(shards, size, rank)
        )
        for block in local.blocks:
            complete.push(*block)
    assert complete.total() == nested(shards)


@given(st.integers(1, 64), st.integers(1, 8))
def test_every_shard_has_one_owner(shards: int, size: int) -> None:
    shards_of_all = [shard for rank in range(size) for shard in owned_shards(shards, size, rank)]
    assert shards_of_all == list(range(shards))


def test_streams_differ_by_seed_step_shard_and_draw() -> None:
    keys = {stream_seed(*key) for key in np.ndindex(4, 4, 4, 4)}
    assert len(keys) == 4**4


def linear_state() -> State:
    torch.manual_seed(0)
    net = nn.Linear(3, 1)
    return State(modules={"net": net}, optimizers={"net": torch.optim.SGD(net.parameters(), 0.1)})


def squared(state: State, shard) -> tuple[torch.Tensor, dict]:
    error = state.modules["net"](shard.batch["x"])[:, 0] - shard.batch["y"]
    return error.square().mean(), {"worst": error.detach().abs().max()}


def batches(sizes: list[int]) -> list[dict]:
    generator = torch.Generator().manual_seed(1)
    return [{"x": torch.randn(n, 3, generator=generator), "y": torch.randn(n, generator=generator)} for n in sizes]


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


def token_mean(state: State, shard) -> tuple[torch.Tensor, dict]:
    """Return a mean over those rows whose y is positive."""
    shard.weight = (shard.batch["y"] > 0).sum()
    error = state.modules["net"](shard.batch["x"])[shard.batch["y"] > 0].square().sum()
    return error / shard.weight.clamp(min=1), {"terms": shard.weight.float()}


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


# ------------------------------------------------------------------------------------------------ the noise scale

WEIGHTS = torch.tensor([1.0, -0.5, 0.25, 0.0])  # minus the weights that generate the data, which are 0
SIGMA = 0.5  # of the labels


def regression(update: ShardedUpdate, sizes: list[int], steps: int) -> list[dict[str, torch.Tensor]]:
    """Return metrics of the squared loss at `WEIGHTS` on x ~ N(0, I), y ~ N(0, SIGMA^2), at a learning rate of 0."""
    generator = torch.Generator().manual_seed(2)
    metrics = []

    def loss(state: State, shard) -> tuple[torch.Tensor, dict]:
        x, y = shard.batch["x"], shard.batch["y"]
        return (state.modules["net"](x)[:, 0] - y).square().mean(), {}

    for _ in range(steps):
        parts = [torch.randn(n, len(WEIGHTS) + 1, generator=generator) for n in sizes]
        update.begin([{"x": part[:, 1:], "y": SIGMA * part[:, 0]} for part in parts], sizes)
        metrics.append(update("net", loss))
    return metrics


def update_at_weights(shards: int, **options) -> ShardedUpdate:
    net = nn.Linear(len(WEIGHTS), 1, bias=False)
    net.weight.data = WEIGHTS[None].clone()
    state = State({"net": net}, optimizers={"net": torch.optim.SGD(net.parameters(), 0.0)})
    return ShardedUpdate(state, Peers(), shards=shards, norms=True, **options)


@pytest.mark.parametrize("sizes", [[4, 4], [5, 4, 4], [8, 8, 8, 8]])
def test_the_noise_scale_agrees_with_that_of_a_linear_model(sizes: list[int]) -> None:
    """The gradient of an example is g = 2 x (x.d - e): E g = 2 d, E |g|^2 = 4 ((n + 2) |d|^2 + n s^2) (Isserlis)."""
    squared, n = float(WEIGHTS.square().sum()), len(WEIGHTS)
    signal, noise = 4 * squared, 4 * ((n + 1) * squared + n * SIGMA**2)
    meter = Meter(("loss", "min"), noise=NoiseScale(sum(sizes), len(sizes)))
    per_step = regression(update_at_weights(len(sizes)), sizes, 4000)
    estimates = []
    for metrics in per_step:
        estimate = NoiseScale(sum(sizes), len(sizes))
        # so many steps that nothing of the initial zeros remains
        estimate.add(float(metrics[SHARD_GRADIENT]), float(metrics[BATCH_GRADIENT]), steps=10**9)
        estimates.append((estimate.signal, estimate.noise))
        meter.add(metrics)
    mean, error = np.mean(estimates, 0), np.std(estimates, 0) / len(estimates) ** 0.5
    assert abs(mean[0] - signal) < 4 * error[0] < 0.2 * signal
    assert abs(mean[1] - noise) < 4 * error[1] < 0.1 * noise
    means = meter.take_means(4000)
    assert means["noise_scale"] == pytest.approx(noise / signal, rel=0.15)
    assert set(means) == {"loss", "gradient_norm", "noise_scale"}
    assert set(meter.take_epoch_means()) == {"loss", "gradient_norm"}


def test_the_norms_are_those_of_full_shards() -> None:
    parts = batches([6, 4])
    gradients = []
    for part in parts:
        state = linear_state()
        squared(state, type("Shard", (), {"batch": part}))[0].backward()
        gradients.append(torch.cat([p.grad.reshape(-1) for p in state.modules["net"].parameters()]))
    for accumulate in (1, 3):
        update = ShardedUpdate(linear_state(), Peers(), shards=2, norms=True, clip=1e-3, accumulate=accumulate)
        update.begin(parts, [6, 4])
        metrics = update("net", squared)
        torch.testing.assert_close(
            metrics[SHARD_GRADIENT], 0.6 * gradients[0].dot(gradients[0]) + 0.4 * gradients[1].dot(gradients[1])
        )
        batch_gradient = 0.6 * gradients[0] + 0.4 * gradients[1]
        torch.testing.assert_close(metrics[BATCH_GRADIENT], batch_gradient.dot(batch_gradient))


def test_a_gradient_without_signal_has_no_finite_scale() -> None:
    noise = NoiseScale(8, 2)
    noise.add(shard=4.0, batch=1.0, steps=5)  # two independent gradients of mean 0 would give 4 and 2
    assert noise.value == float("inf")
    noise.add(shard=1.0, batch=1.0, steps=10**9)
    assert noise.value == 0.0
