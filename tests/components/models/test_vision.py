"""The picture models: sizes as the notes count them, shapes, and layers against their equations."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from components.models.lenet import LeNet
from components.models.mlp import MLP
from components.models.resnet import Residual, ResNet
from components.models.softmax import Softmax


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("net", "count"),
    [
        (LeNet(1, (28, 28), 10), 61_706),
        (ResNet(1, (96, 96), 10), 11_178_378),
        (Softmax(1, (28, 28), 10), 784 * 10 + 10),
        (MLP(1, (28, 28), 10), 784 * 256 + 256 + 256 * 10 + 10),
        (MLP(3, (8, 8), 5, hidden=[7, 6]), 192 * 7 + 7 + 7 * 6 + 6 + 6 * 5 + 5),
    ],
)
def test_the_number_of_parameters(net: nn.Module, count: int) -> None:
    assert parameters(net) == count


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (LeNet, (28, 28)),
        (LeNet, (14, 20)),
        (Softmax, (5, 7)),
        (MLP, (5, 7)),
        (lambda *a: ResNet(*a, widths=[4, 8], blocks=2, stem="cifar"), (9, 16)),
        (lambda *a: ResNet(*a, widths=[4, 8], blocks=1, stem="imagenet"), (32, 48)),
    ],
)
def test_pictures_in_logits_out_and_every_parameter_is_used(make, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net = make(3, size, 6)
    logits = net(torch.randn(2, 3, *size).to(memory_format=torch.channels_last))
    assert logits.shape == (2, 6)
    F.cross_entropy(logits, torch.tensor([0, 5])).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert isinstance(net.get_submodule("head"), nn.Linear)


def test_the_shapes_of_the_notes_resnet() -> None:
    net = ResNet(1, (96, 96), 10)
    x = net.stem(torch.randn(1, 1, 96, 96))
    shapes = [tuple(x.shape[1:])]
    for block in net.body:
        x = block(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(64, 24, 24)] * 3 + [(128, 12, 12)] * 2 + [(256, 6, 6)] * 2 + [(512, 3, 3)] * 2


def test_dropout_is_off_in_evaluation() -> None:
    net = MLP(1, (4, 4), 3, dropout=0.5).eval()
    x = torch.randn(2, 1, 4, 4)
    assert torch.equal(net(x), net(x))
    net.train()
    assert not torch.equal(net(x), net(x))


def test_a_residual_block_adds_its_input() -> None:
    block = Residual(3, 3).eval()
    nn.init.zeros_(block.conv2.weight)
    nn.init.zeros_(block.conv2.bias)
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(block(x), x.relu())


def test_batch_norm_follows_the_equations() -> None:
    """Training: (x - mean) / sqrt(variance + eps) * gamma + beta; evaluation: the same with the running statistics."""
    torch.manual_seed(0)
    layer, x = Residual(2, 2).bn1, torch.randn(8, 2, 3, 3) * 2 + 1
    nn.init.uniform_(layer.weight)
    nn.init.uniform_(layer.bias)
    gamma, beta = (p.detach().view(1, 2, 1, 1) for p in (layer.weight, layer.bias))
    mean = x.mean((0, 2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
    torch.testing.assert_close(layer(x), (x - mean) / (variance + 1e-5).sqrt() * gamma + beta)
    n = x.numel() / 2
    running_mean = 0.1 * mean
    running_variance = 0.9 + 0.1 * variance * n / (n - 1)
    torch.testing.assert_close(layer.running_mean, running_mean.flatten())
    torch.testing.assert_close(layer.running_var, running_variance.flatten())
    layer.eval()
    torch.testing.assert_close(layer(x), (x - running_mean) / (running_variance + 1e-5).sqrt() * gamma + beta)
