"""Batch normalisation by its equations (Ioffe and Szegedy 2015; notes: batch normalisation).

    training:   y = gamma (x - mean) / sqrt(variance + eps) + beta     over the batch, and over all places of a picture
                moving <- (1 - momentum) moving + momentum (mean, variance)
    evaluation: the same with the moving mean and variance

Each virtual shard has its own statistics, and the mean of the shards' moving averages is kept, as with torch's layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import Refusal
from ..recipes.ranges import Count, Positive, Proportion


class BatchNorm(nn.Module):
    """Features [B, features] or maps [B, features, H, W] -> the same shape, before the activation.

    momentum: weight of the new statistics, as torch counts it; the notes give that of the old ones, 0.9. unbiased:
    whether the moving variance is of n - 1, as torch has it; in the notes it is of n. Weights and statistics have
    torch's names.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self, features: Count, eps: Positive = 1e-5, momentum: Proportion = 0.1, unbiased: bool = True
    ) -> None:
        super().__init__()
        self.eps, self.momentum, self.unbiased = eps, momentum, unbiased
        self.weight, self.bias = nn.Parameter(torch.ones(features)), nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        values = x.to(self.weight.dtype)  # also under autocast: statistics of bfloat16 would be coarse
        mean, variance = self._statistics(values) if self.training else (self.running_mean, self.running_var)
        shape = (1, -1) + (1,) * (x.dim() - 2)
        scale = self.weight / (variance + self.eps).sqrt()
        return ((values - mean.view(shape)) * scale.view(shape) + self.bias.view(shape)).to(x.dtype)

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of this batch [features] each; the moving averages follow, in place."""
        places = [0, *range(2, x.dim())]
        count = x.numel() // x.shape[1]
        if count < 2:
            raise Refusal("fit: batch normalisation needs at least 2 examples in a shard; raise fit.batch")
        mean = x.mean(places)
        variance = (x - mean.view(1, -1, *[1] * (x.dim() - 2))).square().mean(places)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)) if self.unbiased else variance, self.momentum)
        return mean, variance
