"""Check the notes' claim: a sigmoid with binary cross-entropy is a softmax over two classes, in loss and gradient."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from components.models.mlp import MLP
from components.models.softmax import Softmax


def test_two_class_softmax_is_a_sigmoid_of_the_difference() -> None:
    torch.manual_seed(0)
    net = Softmax(channels=1, size=(3, 3), classes=2)
    x, label = torch.randn(40, 1, 3, 3), torch.randint(0, 2, (40,))
    logits = net(x)
    z = logits[:, 1] - logits[:, 0]
    assert torch.allclose(logits.softmax(1)[:, 1], torch.sigmoid(z))
    softmax, sigmoid = F.cross_entropy(logits, label), F.binary_cross_entropy_with_logits(z, label.float())
    assert torch.allclose(softmax, sigmoid)
    for first, second in zip(
        torch.autograd.grad(softmax, list(net.parameters()), retain_graph=True),
        torch.autograd.grad(sigmoid, list(net.parameters())),
        strict=True,
    ):
        assert torch.allclose(first, second, atol=1e-6)


def test_a_hard_sigmoid_is_two_relus() -> None:
    x = torch.linspace(-5, 5, 101)
    unit = MLP(1, (1, 1), 1, hidden=[1], dropout=0.0, activation="hard_sigmoid").body[2]
    assert torch.allclose(unit(x), (F.relu(x + 3) - F.relu(x - 3)) / 6, atol=1e-6)
