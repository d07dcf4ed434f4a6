"""Check the comparable network and the plain residual network: shapes, padding, refusals, and what lies in front."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from components.errors import Refusal
from components.layers.spatial_transformer import SpatialTransformer
from components.models.convnet import ConvNet
from components.models.resnet import ResNet


@pytest.mark.parametrize("down", ["max", "average", "stride"])
@pytest.mark.parametrize("kernel", [3, 5])
def test_each_block_halves_the_sides(down: Any, kernel: int) -> None:
    net = ConvNet(1, (12, 8), 10, kernel=kernel, down=down)
    x = torch.randn(2, 1, 12, 8)
    assert net.body(x).shape == (2, 32, 3, 2)
    assert net(x).shape == (2, 10)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_is_that_of_torch(mode: Any) -> None:
    net = ConvNet(1, (8, 8), 10, convolutions=[1], widths=[4], padding=mode, down="stride")
    x = torch.randn(2, 1, 8, 8)
    first = net.body[0]
    expected = F.conv2d(F.pad(x, (1, 1, 1, 1), mode=mode), first.weight, first.bias, stride=2)
    assert torch.allclose(first(x), expected, atol=1e-6)


def test_a_layer_in_front_gets_the_shape() -> None:
    net = ConvNet(1, (8, 8), 10, transformer=partial(SpatialTransformer, hidden=4))
    plain = ConvNet(1, (8, 8), 10)
    plain.load_state_dict({k: v for k, v in net.state_dict().items() if not k.startswith("front.")})
    x = torch.rand(3, 1, 8, 8)
    assert torch.allclose(net(x), plain(x), atol=1e-5), "it begins as the identity"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"convolutions": [1]}, "have 1 and 2 blocks"),
        ({"kernel": 4}, "4 is even"),
        ({"convolutions": [1] * 4, "widths": [2] * 4}, "too small for 4 blocks"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(Refusal, match=message):
        ConvNet(1, (8, 8), 10, **arguments)


def test_a_plain_network_has_the_layers_of_a_residual_one_without_the_sum() -> None:
    torch.manual_seed(0)
    plain = ResNet(1, (8, 8), 10, widths=[4, 4], blocks=2, stem="cifar", shortcuts=False).eval()
    x = torch.randn(2, 1, 8, 8)
    y = plain.stem(x)
    for block in plain.body:
        assert block.shortcut is None
        y = block.bn2(block.conv2(block.bn1(block.conv1(y)).relu())).relu()
    assert torch.allclose(plain(x), plain.head(y.mean((2, 3))))
    residual = ResNet(1, (8, 8), 10, widths=[4, 4], blocks=2, stem="cifar")
    shared = {k for k in residual.state_dict() if ".shortcut." not in k}
    assert shared == set(plain.state_dict())
