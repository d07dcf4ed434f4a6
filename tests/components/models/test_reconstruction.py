"""Reconstruction: the transposed layer starts as the convolution's transpose, and a lost row is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from components.errors import Refusal
from components.models.reconstruction import Reconstruction, relative_error


def test_it_starts_as_the_transpose_of_its_convolution() -> None:
    net = Reconstruction(1, (17, 17))
    nn.init.zeros_(net.transposed.bias)
    x = torch.randn(2, 1, 17, 17)
    y = net(x)
    assert net.convolve(x).shape == (2, 4, 8, 8)
    assert y.shape == x.shape
    assert torch.allclose(y, net.transpose(net.convolve(x)), atol=1e-5)
    # The adjoint: <A x, z> = <x, A' z>
    z = torch.randn(2, 4, 8, 8)
    assert torch.allclose((net.convolve(x) * z).sum(), (x * net.transpose(z)).sum(), atol=1e-3)


def test_only_the_transposed_layer_is_trained() -> None:
    net = Reconstruction(1, (17, 17))
    assert {name for name, _ in net.named_parameters()} == {"transposed.weight", "transposed.bias"}
    assert "kernels" in net.state_dict()


def test_the_error_is_a_share_of_the_variance() -> None:
    picture = torch.rand(3, 1, 5, 5)
    mean = picture.mean((1, 2, 3), keepdim=True).expand_as(picture)
    assert torch.allclose(relative_error(picture, mean), torch.ones(3))
    assert torch.equal(relative_error(picture, picture), torch.zeros(3))


def test_sizes_that_lose_a_row_are_refused() -> None:
    with pytest.raises(Refusal, match=r"stride: 2 does not divide 16 \+ 2 \* 0 - 3"):
        Reconstruction(1, (16, 16))
