"""Blocks of 3x3 convolutions with batch normalisation, of which small detectors are built (notes: SSD)."""

from __future__ import annotations

from torch import nn


def convolution_block(channels_in: int, channels_out: int, convolutions: int = 2, halve: bool = True) -> nn.Sequential:
    """Return `convolutions` times convolution, batch normalisation and ReLU, then a pooling that halves the sides."""
    block = nn.Sequential()
    for fan_in in [channels_in, *[channels_out] * (convolutions - 1)]:
        block.append(nn.Conv2d(fan_in, channels_out, kernel_size=3, padding=1, bias=False))
        block.append(nn.BatchNorm2d(channels_out))
        block.append(nn.ReLU(inplace=True))
    if halve:
        block.append(nn.MaxPool2d(2))
    return block
