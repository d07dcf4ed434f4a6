"""Compute the terms of the style transfer loss (Gatys et al. 2016; notes: style transfer)."""

from __future__ import annotations

from torch import Tensor


def gram_matrix(features: Tensor) -> Tensor:
    """Return the Gram matrices [B, C, C] of features [B, C, H, W].

    They are the products of channels, summed over all positions and divided by C * H * W.
    """
    batch, channels, height, width = features.shape
    flat = features.reshape(batch, channels, height * width)
    return flat @ flat.transpose(1, 2) / (channels * height * width)


def total_variation(pictures: Tensor) -> Tensor:
    """Return the total variation (0-d) of pictures [B, C, H, W].

    It is the mean absolute difference of neighbours, averaged over the vertical and the horizontal direction.
    """
    vertical = pictures.diff(dim=2).abs().mean()
    horizontal = pictures.diff(dim=3).abs().mean()
    return (vertical + horizontal) / 2
