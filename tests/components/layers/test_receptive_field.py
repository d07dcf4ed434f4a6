"""Compare computed receptive fields with the inputs that have a gradient on one output."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from components.layers.receptive_field import receptive_fields
from components.models.convnet import ConvNet

SIDE = 24
CASES = {
    "two 3x3": [nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3)],
    "one 5x5 with padding": [nn.Conv2d(1, 2, 5, padding=2)],
    "stride, pooling, dilation": [
        nn.Conv2d(1, 2, 3, stride=2, padding=1),
        nn.AvgPool2d(2),
        nn.Conv2d(2, 2, 3, dilation=2, padding=2),
    ],
    "pooling with overlap": [nn.AvgPool2d(3, stride=2, padding=1), nn.Conv2d(1, 1, 3, padding=1)],
}


def seen_interval(net: nn.Module, position: int) -> tuple[int, int]:
    """Return the first and last row whose gradient on the output row `position` is not zero."""
    x = torch.rand(1, 1, SIDE, SIDE, requires_grad=True)
    for parameter in net.parameters():
        nn.init.uniform_(parameter, 0.1, 1.0)  # nothing cancels
    output = net(x)
    (gradient,) = torch.autograd.grad(output[0, :, position, output.shape[3] // 2].sum(), x)
    rows = gradient[0, 0].abs().sum(1).nonzero()[:, 0]
    return int(rows.min()), int(rows.max())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("position", [0, 2, 3])
def test_fields_are_where_the_gradient_is(case: str, position: int) -> None:
    net = nn.Sequential(*CASES[case])
    assert receptive_fields(net)[-1].interval(position, SIDE) == seen_interval(net, position)


@pytest.mark.parametrize("down", ["average", "stride"])
def test_a_networks_fields_grow_with_depth(down: str) -> None:
    nets = [ConvNet(1, (SIDE, SIDE), 10, convolutions=[n, n], widths=[2, 2], down=down) for n in (1, 2)]
    fields = [net.receptive_fields()[-1] for net in nets]
    assert fields[0].size < fields[1].size
    for net, field in zip(nets, fields, strict=True):
        net.body.eval()
        for index, layer in enumerate(net.body):
            if isinstance(layer, nn.ReLU):
                net.body[index] = nn.Identity()
        assert field.interval(2, SIDE) == seen_interval(net.body, 2)


def test_two_small_kernels_see_what_a_large_one_sees() -> None:
    small, large = (
        ConvNet(1, (12, 12), 10, convolutions=[n, n], widths=w, kernel=k).receptive_fields()[-1]
        for n, k, w in ((2, 3, [12, 24]), (1, 5, [13, 27]))
    )
    assert (small.size, small.jump) == (large.size, large.jump)
    count = partial(sum, start=0)
    sizes = [
        count(p.numel() for p in ConvNet(1, (12, 12), 10, [n, n], w, k).parameters())
        for n, k, w in ((2, 3, [12, 24]), (1, 5, [13, 27]))
    ]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1), "nearly equal parameters"
