"""The three losses of style transfer (Gatys et al. 2016; notes: style transfer), each averaged over its elements."""

from __future__ import annotations

from torch import Tensor


def gram_matrix(features: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, C, C]: how channels go together, whatever the place, divided by C * H * W."""
    batch, channels, height, width = features.shape
    flat = features.reshape(batch, channels, height * width)
    return flat @ flat.transpose(1, 2) / (channels * height * width)


def total_variation(pictures: Tensor) -> Tensor:
    """[B, C, H, W] -> 0-d: mean absolute difference of neighbours, half of it down, half of it across."""
    down, across = pictures.diff(dim=2).abs().mean(), pictures.diff(dim=3).abs().mean()
    return (down + across) / 2
