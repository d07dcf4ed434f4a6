"""The losses of detectors with two stages, as means over pictures (notes: Fast and Faster R-CNN)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def classification_loss(logits: Tensor, targets: Tensor, is_real: Tensor) -> Tensor:
    """Return the mean over pictures of the mean cross-entropy of each picture's real examples.

    logits [B, S, K + 1], targets [B, S], is_real bool [B, S]. A picture without an example adds 0.
    """
    entropy = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    return _mean_by_picture(entropy * is_real, is_real)


def objectness_loss(logits: Tensor, targets: Tensor, is_real: Tensor) -> Tensor:
    """Return the same for one logit [B, S] per example and targets bool [B, S]."""
    entropy = F.binary_cross_entropy_with_logits(logits, targets.float(), reduction="none")
    return _mean_by_picture(entropy * is_real, is_real)


def offset_loss(offsets: Tensor, targets: Tensor, is_object: Tensor, is_real: Tensor) -> Tensor:
    """Return the smooth L1 distance of offsets [B, S, 4] of the objects among the examples, as a share of all of them.

    is_object: bool [B, S], those that have a target. The mean is that of `classification_loss`.
    """
    counts = (is_object & is_real)[..., None]
    # Replaced before the distance is computed: those of other examples are not finite, and 0 * inf is nan.
    targets = torch.where(counts, targets, 0.0)
    distance = F.smooth_l1_loss(offsets, targets, reduction="none") * counts
    return _mean_by_picture(distance.sum(2), is_real)


def mask_loss(logits: Tensor, targets: Tensor, is_object: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of masks [B, R, S, S] of the regions with an object, bool [B, R].

    The mean is over each picture's objects and then over pictures, as in `classification_loss`.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean((2, 3))
    return _mean_by_picture(entropy * is_object, is_object)


def _mean_by_picture(values: Tensor, is_real: Tensor) -> Tensor:
    return (values.sum(1) / is_real.sum(1).clamp(min=1)).mean()
