"""The noise scale agrees with that of a linear model, and the norms that it follows from with autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from components.training.meter import Meter
from components.training.noise_scale import BATCH_GRADIENT, SHARD_GRADIENT, NoiseScale
from components.training.peers import Peers
from components.training.task import State
from components.training.update import ShardedUpdate
from tests.components.training.linear_problem import batches, linear_state, squared

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
