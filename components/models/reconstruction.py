"""A fixed random convolution and the transposed convolution that should undo it (notes: transposed convolution)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import Refusal
from ..layers.transposed import TransposedConv2d
from ..recipes.ranges import Count, Natural


class Reconstruction(nn.Module):
    """Map pictures [B, channels, H, W] to reconstructions of the same shape.

    width: channels between the two layers. The transposed convolution starts with the kernels of the convolution.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        width: Count = 4,
        kernel: Count = 3,
        stride: Count = 2,
        padding: Natural = 0,
    ) -> None:
        super().__init__()
        for side in size:
            if (side + 2 * padding - kernel) % stride or side + 2 * padding < kernel:
                raise Refusal(
                    f"model.stride: {stride} does not divide {side} + 2 * {padding} - {kernel}, so a row would be lost;"
                    " change stride, kernel or padding"
                )
        self.stride = stride
        self.padding = padding
        self.transposed = TransposedConv2d(width, channels, kernel, stride, padding)
        self.register_buffer("kernels", self.transposed.weight.detach().clone())

    def convolve(self, x: Tensor) -> Tensor:
        """Return the maps [B, width, H', W'] of the fixed convolution."""
        return F.conv2d(x, self.get_buffer("kernels"), stride=self.stride, padding=self.padding)

    def transpose(self, maps: Tensor) -> Tensor:
        """Return maps [B, width, H', W'] times the transposed matrix of the convolution: [B, channels, H, W]."""
        return F.conv_transpose2d(maps, self.get_buffer("kernels"), stride=self.stride, padding=self.padding)

    def forward(self, x: Tensor) -> Tensor:
        """Return the learnt reconstructions."""
        return self.transposed(self.convolve(x))


@torch.no_grad()
def relative_error(picture: Tensor, reconstruction: Tensor) -> Tensor:
    """Return the squared error of each picture [B, C, H, W] as a share of its variance: [B]; 1 for its mean."""
    error = (reconstruction - picture).square().sum((1, 2, 3))
    spread = (picture - picture.mean((1, 2, 3), keepdim=True)).square().sum((1, 2, 3))
    return error / spread.clamp(min=1e-6)
