"""How weights are drawn before the first step."""

from __future__ import annotations

from torch import nn


def init_for_relu(net: nn.Module) -> None:
    """Weights of all convolutions and dense layers in `net` for rectified units, biases zero (He et al. 2015).

    Deep networks without batch normalisation do not start to learn from torch's default.
    """
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def scale_widths(widths: list[int], width: float) -> list[int]:
    """Channels times `width`, rounded, never below 1."""
    return [max(1, round(channels * width)) for channels in widths]
