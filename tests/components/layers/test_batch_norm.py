"""Batch normalisation matches torch's: values, gradients, moving averages, and both kinds of moving variance."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from components.errors import Refusal
from components.layers.batch_norm import BatchNorm

SHAPES = [(8, 3), (4, 3, 5, 6)]
NAMES = ("weight", "bias", "running_mean", "running_var")


def pair(shape: tuple[int, ...]) -> tuple[BatchNorm, nn.Module]:
    torch.manual_seed(0)
    mine, other = BatchNorm(3), (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(3)
    for layer in (mine, other):
        torch.manual_seed(1)
        nn.init.uniform_(layer.weight)
        nn.init.uniform_(layer.bias)
    return mine.double(), other.double()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_it_matches_torch_in_training_and_evaluation(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    layers = [layer.to(dtype) for layer in pair(shape)]
    for step in range(6):
        x = 2 * torch.randn(shape, generator=torch.Generator().manual_seed(step)).to(dtype) + 1
        weight = torch.randn(shape, generator=torch.Generator().manual_seed(step + 100)).to(dtype)
        results = []
        for layer in layers:
            layer.train(step < 4)
            leaf = x.clone().requires_grad_()
            y = layer(leaf)
            gradients = torch.autograd.grad((y * weight).sum(), [leaf, layer.weight, layer.bias])
            results.append([y, *gradients, *(getattr(layer, name).clone() for name in NAMES)])
        for mine, other in zip(*results, strict=True):
            torch.testing.assert_close(mine, other, atol=1e-6 if dtype == torch.float64 else 1e-5, rtol=1e-6)


def test_without_unbiased_the_moving_variance_divides_by_n() -> None:
    layer, x = BatchNorm(3, unbiased=False), torch.randn(4, 3, 2, 2)
    layer(x)
    mean = x.mean((0, 2, 3))
    variance = ((x - mean.view(1, 3, 1, 1)) ** 2).mean((0, 2, 3))
    torch.testing.assert_close(layer.running_mean, 0.9 * torch.zeros(3) + 0.1 * mean)
    torch.testing.assert_close(layer.running_var, 0.9 * torch.ones(3) + 0.1 * variance)


def test_weights_and_statistics_have_torchs_names() -> None:
    mine, other = pair((4, 3, 5, 6))
    other(torch.randn(4, 3, 5, 6).double())
    weights = {name: value for name, value in other.state_dict().items() if name != "num_batches_tracked"}
    mine.load_state_dict(weights)


def test_under_autocast_the_statistics_stay_exact() -> None:
    layer, x = BatchNorm(3), torch.randn(16, 3, 4, 4).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    torch.testing.assert_close(layer.running_mean, 0.1 * x.float().mean((0, 2, 3)))


def test_a_single_value_is_refused() -> None:
    with pytest.raises(Refusal, match="at least 2 examples"):
        BatchNorm(3)(torch.randn(1, 3))
