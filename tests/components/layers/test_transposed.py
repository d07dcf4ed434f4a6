"""Transposed convolution equals torch's and the transposed matrix of a convolution; its bilinear start interpolates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.layers.transposed import TransposedConv2d, bilinear_upsampling

SHAPES = [  # channels in, channels out, kernel, stride, padding, height, width
    (1, 1, 2, 1, 0, 2, 2),
    (2, 3, 3, 1, 1, 5, 4),
    (3, 2, 4, 2, 1, 3, 6),
    (2, 2, 5, 3, 2, 4, 4),
    (4, 1, 3, 3, 0, 2, 5),
    (10, 20, 5, 3, 2, 6, 6),
]


@pytest.mark.parametrize(("channels_in", "channels_out", "kernel", "stride", "padding", "height", "width"), SHAPES)
def test_it_equals_torchs_layer_with_its_gradients(
    channels_in: int, channels_out: int, kernel: int, stride: int, padding: int, height: int, width: int
) -> None:
    torch.manual_seed(0)
    layer = TransposedConv2d(channels_in, channels_out, kernel, stride, padding)
    oracle = nn.ConvTranspose2d(channels_in, channels_out, kernel, stride, padding)
    nn.init.normal_(layer.bias)
    oracle.load_state_dict(layer.state_dict())
    x = torch.randn(3, channels_in, height, width, requires_grad=True)
    y = layer(x)
    expected = oracle(x)
    assert y.shape == expected.shape
    assert torch.allclose(y, expected, atol=1e-5)
    weights = torch.randn_like(y)
    gradients = torch.autograd.grad((y * weights).sum(), [x, layer.weight, layer.bias])
    references = torch.autograd.grad((expected * weights).sum(), [x, oracle.weight, oracle.bias])
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(gradients, references, strict=True))


def convolution_matrix(weight: Tensor, size: tuple[int, int], stride: int, padding: int) -> np.ndarray:
    """Return the matrix of the convolution with `weight` [C_out, C_in, k, k], entry by entry, without torch.

    Rows are output values, columns the values of an input [C_in, *size].
    """
    channels_out, channels_in, kernel, _ = weight.shape
    height, width = size
    new_height, new_width = ((side + 2 * padding - kernel) // stride + 1 for side in size)
    matrix = np.zeros((channels_out, new_height, new_width, channels_in, height, width))
    for out, i, j, channel, a, b in np.ndindex(channels_out, new_height, new_width, channels_in, kernel, kernel):
        row, column = i * stride + a - padding, j * stride + b - padding
        if 0 <= row < height and 0 <= column < width:
            matrix[out, i, j, channel, row, column] = weight[out, channel, a, b]
    return matrix.reshape(channels_out * new_height * new_width, -1)


@pytest.mark.parametrize(("channels_in", "channels_out", "kernel", "stride", "padding", "height", "width"), SHAPES[:5])
def test_it_is_the_transpose_of_the_convolutions_matrix(
    channels_in: int, channels_out: int, kernel: int, stride: int, padding: int, height: int, width: int
) -> None:
    torch.manual_seed(1)
    layer = TransposedConv2d(channels_in, channels_out, kernel, stride, padding, bias=False)
    x = torch.randn(1, channels_in, height, width)
    y = layer(x)
    matrix = convolution_matrix(layer.weight.detach(), tuple(y.shape[2:]), stride, padding)
    convolved = F.conv2d(y, layer.weight, stride=stride, padding=padding)
    assert np.allclose(matrix @ y.detach().numpy().ravel(), convolved.detach().numpy().ravel(), atol=1e-4)
    assert np.allclose(matrix.T @ x.numpy().ravel(), y.detach().numpy().ravel(), atol=1e-5)
    assert convolved.shape == x.shape  # the shape comes back,
    assert not torch.allclose(convolved, x, atol=0.1)  # the values do not


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_the_bilinear_start_is_interpolation(scale: int) -> None:
    x = torch.randn(2, 3, 6, 7)
    y = bilinear_upsampling(3, scale)(x)
    expected = F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)
    assert y.shape == expected.shape
    inner = slice(scale, -scale)
    assert torch.allclose(y[..., inner, inner], expected[..., inner, inner], atol=1e-5)
