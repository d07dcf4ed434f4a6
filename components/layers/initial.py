"""Initialise weights for rectified units, and scale the widths of networks."""

from __future__ import annotations

from torch import nn


def init_for_relu(net: nn.Module) -> None:
    """Initialise all convolutions and dense layers of `net` for ReLU, biases with zero (He et al. 2015).

    With torch's default, deep networks without batch normalisation do not start to learn.
    """
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def scale_widths(widths: list[int], width: float) -> list[int]:
    """Return the numbers of channels times `width`, rounded, at least 1."""
    return [max(1, round(channels * width)) for channels in widths]
