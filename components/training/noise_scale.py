"""The gradient noise scale, and the squared norms of gradients from which it is estimated.

McCandlish et al., An Empirical Model of Large-Batch Training, 2018, appendix A.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

AVERAGING_STEPS = 100
SHARD_GRADIENT, BATCH_GRADIENT = "shard_gradient", "batch_gradient"  # squared norms, as metrics of a step


@dataclass
class NoiseScale:
    """The gradient noise scale tr(S) / |G|^2: about the batch size above which larger batches help little.

    The gradient of b examples has the mean squared norm |G|^2 + tr(S) / b. Its values for a shard and for the full
    batch therefore give unbiased estimates of both terms. Each term is averaged over about AVERAGING_STEPS steps before
    the division. Shards are weighted by their sizes but otherwise treated as equal. With batch normalisation, the
    gradient of a shard depends on the statistics of that shard alone.
    """

    batch: int
    shards: int
    signal: float = 0.0  # |G|^2
    noise: float = 0.0  # tr(S), of the gradient of one example

    def add(self, shard: float, batch: float, steps: int) -> None:
        """Add the means over `steps` steps of the squared norms of the shards' gradients and of the batch's."""
        signal = (self.shards * batch - shard) / (self.shards - 1)
        noise = self.batch * (shard - batch) / (self.shards - 1)
        # both averages start at 0; this bias cancels in their ratio
        weight = 1 - (1 - 1 / AVERAGING_STEPS) ** steps
        self.signal += weight * (signal - self.signal)
        self.noise += weight * (noise - self.noise)

    @property
    def value(self) -> float:
        """Return the noise scale in examples, or infinity while the gradient is not distinguishable from its noise."""
        return max(self.noise, 0.0) / self.signal if self.signal > 0 else math.inf


def squared_norm(gradients: list[Tensor]) -> Tensor:
    """Return the squared norm over all `gradients`, as a tensor [1]."""
    return torch.stack(torch._foreach_norm(gradients)).float().square().sum()[None]


def append_squared_norm(values: list[Tensor]) -> list[Tensor]:
    """Append the squared norm of a shard's gradients to its scalars, the last tensor of `values`."""
    *gradients, scalars = values
    return [*gradients, torch.cat([scalars, squared_norm(gradients)])]
