"""A convolution is a constrained dense layer, and its receptive field grows with depth (notes: CNN)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from components.models.lenet import LeNet
from components.models.vgg import Convolutions


def equivalent(layer: nn.Conv2d, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (matrix [outputs, inputs], bias [outputs]) of the dense layer that equals `layer` on pictures of a size.

    Weights outside the receptive field of a unit are 0, and all units of a channel share their weights.
    """
    weight, (stride, _), (padding, _) = layer.weight.detach().numpy(), layer.stride, layer.padding
    fan_out, fan_in, kernel, _ = weight.shape
    rows, columns = ((side + 2 * padding - kernel) // stride + 1 for side in (height, width))
    matrix = np.zeros((fan_out, rows, columns, fan_in, height, width), dtype=weight.dtype)
    for row, column, i, j in np.ndindex(rows, columns, kernel, kernel):
        y, x = row * stride + i - padding, column * stride + j - padding
        if 0 <= y < height and 0 <= x < width:
            matrix[:, row, column, :, y, x] = weight[:, :, i, j]
    bias = layer.bias.detach().numpy().repeat(rows * columns)
    return matrix.reshape(fan_out * rows * columns, -1), bias


@settings(max_examples=40, deadline=None)
@given(
    fan_in=st.integers(1, 3),
    fan_out=st.integers(1, 3),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    height=st.integers(4, 8),
    width=st.integers(4, 8),
    seed=st.integers(0, 99),
)
def test_a_convolution_is_a_constrained_dense_layer(
    fan_in: int, fan_out: int, kernel: int, stride: int, padding: int, height: int, width: int, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = nn.Conv2d(fan_in, fan_out, kernel, stride, padding)
    x = torch.randn(3, fan_in, height, width)
    matrix, bias = equivalent(layer, height, width)
    assert np.count_nonzero(matrix) <= len(matrix) * fan_in * kernel**2, "only the receptive field"
    assert len(np.unique(matrix)) <= layer.weight.numel() + 1, "the weights are shared"
    dense = x.flatten(1).numpy() @ matrix.T + bias
    np.testing.assert_allclose(dense, layer(x).detach().flatten(1).numpy(), rtol=1e-4, atol=1e-5)


def test_lenet_with_dense_layers_for_convolutions_has_the_same_logits() -> None:
    torch.manual_seed(0)
    net, x = LeNet(1, (16, 16), 10), torch.randn(4, 1, 16, 16)
    expected = net(x)
    for index, (channels, side) in {0: (6, 16), 3: (16, 4)}.items():
        layer = net.body[index]
        inputs = side + layer.kernel_size[0] - 1 - 2 * layer.padding[0]
        matrix, bias = equivalent(layer, inputs, inputs)
        dense = nn.Linear(matrix.shape[1], matrix.shape[0])
        dense.weight.data, dense.bias.data = torch.from_numpy(matrix), torch.from_numpy(bias)
        net.body[index] = nn.Sequential(nn.Flatten(), dense, nn.Unflatten(1, (channels, side, side)))
    torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-5)


def field(body: nn.Module, side: int) -> tuple[int, int]:
    """Return height and width of the pixels that the central output depends on, over many pictures and all channels."""
    x = torch.rand(64, 1, side, side, requires_grad=True)
    out = body(x)
    middle = out.shape[-1] // 2
    (gradient,) = torch.autograd.grad(out[:, :, middle, middle].sum(), x)
    depends = gradient.abs().sum((0, 1)) > 0
    return int(depends.any(1).sum()), int(depends.any(0).sum())


def test_the_receptive_field_grows_with_depth() -> None:
    """A 3x3 convolution adds two steps between neighbouring outputs, a pooling one; a pooling doubles the step."""
    torch.manual_seed(0)
    fields = {}
    for convolutions in ([1], [2], [3], [1, 1], [1, 1, 1], [2, 2]):
        size, step = 1, 1  # of the field, and between neighbouring outputs
        for count in convolutions:
            size, step = size + 2 * count * step + step, 2 * step
        body = Convolutions(1, convolutions, [8] * len(convolutions)).eval()
        fields[tuple(convolutions)] = field(body, 48)
        assert fields[tuple(convolutions)] == (size, size)
    assert fields[(1,)] < fields[(2,)] < fields[(3,)]
    assert fields[(1,)] < fields[(1, 1)] < fields[(1, 1, 1)]


@pytest.mark.parametrize("pool", ["average", "max"])
def test_lenet_pools_by_mean_or_maximum(pool: str) -> None:
    torch.manual_seed(0)
    net, x = LeNet(1, (16, 16), 10, pool=pool), torch.rand(2, 1, 16, 16)
    before = net.body[:2](x).detach().numpy().reshape(2, 6, 8, 2, 8, 2)
    pooled = before.mean((3, 5)) if pool == "average" else before.max((3, 5))
    np.testing.assert_allclose(net.body[:3](x).detach().numpy(), pooled, rtol=1e-6)
