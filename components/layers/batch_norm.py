"""Normalise batches by the equations of the paper (Ioffe and Szegedy 2015; notes: batch normalisation).

    training:   y = gamma (x - mean) / sqrt(variance + eps) + beta     over the batch, and over all positions of a map
                moving <- (1 - momentum) moving + momentum (mean, variance)
    evaluation: the same with the moving mean and variance

Each virtual shard has its own statistics. The engine averages the moving averages of the shards, as for torch's layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import Refusal
from ..recipes.ranges import Count, Positive, Proportion


class BatchNorm(nn.Module):
    """Batch normalisation of features [B, features] or maps [B, features, H, W], which keep their shape.

    momentum: the weight of the new statistics, as in torch; the notes state that of the old ones, 0.9. unbiased: the
    moving variance divides by n - 1, as in torch; the notes divide by n. Parameters and buffers have torch's names.
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
        """Normalise x [B, features, ...]; in training, update the moving averages."""
        # Under autocast too: statistics in bfloat16 would be too coarse.
        values = x.to(self.weight.dtype)
        if self.training:
            mean, variance = self._update_statistics(values)
        else:
            mean, variance = self.running_mean, self.running_var
        shape = (1, -1) + (1,) * (x.dim() - 2)
        scale = self.weight / (variance + self.eps).sqrt()
        return ((values - mean.view(shape)) * scale.view(shape) + self.bias.view(shape)).to(x.dtype)

    def _update_statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance of the batch, [features] each, and update the moving averages in place."""
        dims = [0, *range(2, x.dim())]
        count = x.numel() // x.shape[1]
        if count < 2:
            raise Refusal("fit: batch normalisation needs at least 2 examples in a shard; raise fit.batch")
        mean = x.mean(dims)
        variance = (x - mean.view(1, -1, *[1] * (x.dim() - 2))).square().mean(dims)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            moving = variance * (count / (count - 1)) if self.unbiased else variance
            self.running_var.lerp_(moving, self.momentum)
        return mean, variance
