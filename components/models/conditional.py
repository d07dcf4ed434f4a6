"""The conditional GAN: both networks see the condition (Mirza & Osindero 2014; notes: conditional generation).

Each network has an encoder of its own (`models/condition_encoders.py`). The generator's latent vector is extended by
the encoded condition. The discriminator compares the picture's features with it by an inner product, to which the
unconditional logit is added (Miyato & Koyama 2018).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..recipes.ranges import Counts
from . import dcgan


class Generator(nn.Module):
    """Map latent vectors [B, latent] and conditions [B, *condition] to pictures [B, *shape] in -1..1.

    encoder: factory called with (shape=condition, classes=). widths: of the DCGAN's generator.
    """

    def __init__(
        self,
        latent: int,
        shape: tuple[int, ...],
        condition: tuple[int, ...],
        classes: int,
        encoder: Callable[..., nn.Module],
        widths: Counts = [64, 32],  # noqa: B006  (never written to)
    ) -> None:
        super().__init__()
        self.encoder = encoder(shape=condition, classes=classes)
        self.body = dcgan.Generator(latent + int(cast(Any, self.encoder).width), shape, widths)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """Return pictures [B, *shape] for latent vectors z [B, latent]."""
        return self.body(torch.cat([z, self.encoder(condition)], dim=1))


class Discriminator(nn.Module):
    """Map pictures [B, *shape] and conditions [B, *condition] to logits [B] of being real and matching.

    encoder: factory called with (shape=condition, classes=). widths: of the DCGAN's discriminator.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        condition: tuple[int, ...],
        classes: int,
        encoder: Callable[..., nn.Module],
        widths: Counts = [32, 64],  # noqa: B006
    ) -> None:
        super().__init__()
        self.encoder = encoder(shape=condition, classes=classes)
        body = dcgan.Discriminator(shape, widths)
        self.body, self.head = body.body, body.head
        self.projection = nn.Linear(int(cast(Any, self.encoder).width), self.head.in_features, bias=False)
        nn.init.normal_(self.projection.weight, std=0.02)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return logits [B] of pictures [B, *shape] with their conditions."""
        return self.match(self.body(x), self.encoder(condition))

    def match(self, features: Tensor, code: Tensor) -> Tensor:
        """Return logits [B] of what `body` [B, F] and `encoder` [B, width] returned."""
        return self.head(features).squeeze(1) + (features * self.projection(code)).sum(1)
