"""Compute the losses of a discriminator and of a generator from logits (Goodfellow et al. 2014)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def discriminator_loss(real: Tensor, *negatives: Tensor) -> Tensor:
    """Return the mean of -log D(x), plus that of -log(1 - D(x)) over the kinds of negatives.

    real [B, ...]: logits of real examples. Each of `negatives` [B, ...] holds the logits of one kind of negatives, such
    as generated examples; all kinds have the same weight.
    """
    return F.softplus(-real).mean() + torch.stack([F.softplus(part).mean() for part in negatives]).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """Return the mean of -log D(x) for logits [B, ...] of generated examples.

    Its gradient does not vanish while the discriminator is still ahead.
    """
    return F.softplus(-fake).mean()
