"""Transposed convolution: every input value spreads its kernel over the output (notes: transposed convolution).

It is the transpose of the matrix of a convolution with the same kernel, stride and padding. It restores the shape that
the convolution was applied to, but not its values.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..recipes.ranges import Count, Natural


class TransposedConv2d(nn.Module):
    """Map [B, C_in, H, W] to [B, C_out, (H - 1) * stride + kernel - 2 * padding, ...].

    stride: pixels between the kernels of neighbouring inputs. padding: pixels cut from each edge of the output. The
    weight has the shape [C_in, C_out, kernel, kernel], as in torch.
    """

    def __init__(
        self,
        channels_in: Count,
        channels_out: Count,
        kernel: Count,
        stride: Count = 1,
        padding: Natural = 0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.kernel = kernel
        self.stride = stride
        self.padding = padding
        self.weight = nn.Parameter(torch.empty(channels_in, channels_out, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(channels_out)) if bias else None
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of all kernels, each times its input value."""
        height, width = ((side - 1) * self.stride + self.kernel - 2 * self.padding for side in x.shape[2:])
        kernels = self.weight.flatten(1).T @ x.flatten(2)  # [B, C_out * kernel * kernel, H * W]
        y = F.fold(kernels, (height, width), self.kernel, padding=self.padding, stride=self.stride)
        return y if self.bias is None else y + self.bias.view(-1, 1, 1)


def bilinear_upsampling(channels: int, scale: int) -> TransposedConv2d:
    """Return a transposed convolution that magnifies [B, C, H, W] `scale` times by bilinear interpolation.

    Away from the edges it equals torch's `interpolate` without aligned corners; beyond an edge it reads 0.
    """
    kernel = 2 * scale - scale % 2
    layer = TransposedConv2d(channels, channels, kernel, scale, (kernel - scale) // 2, bias=False)
    centre = (kernel - 1) / 2
    line = 1 - (torch.arange(kernel) - centre).abs() / scale
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[range(channels), range(channels)] = line[:, None] * line
    return layer
