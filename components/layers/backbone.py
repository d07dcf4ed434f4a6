"""Use the convolutions of a classification network as the backbone of a detector."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..errors import Refusal


class Backbone(nn.Module):
    """Map pictures [B, channels, *size] to maps [B, width, *grid]: the parts `stem` and `body` of a classifier.

    The tensors have the names that they have in the classifier, so that its weights can be copied
    (models/pretrained.py). `width`, `grid` (rows, columns) and `stride` (pixels per cell) follow from one call.
    """

    def __init__(self, network: Callable[..., nn.Module], channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        classifier = network(channels=channels, size=size, classes=1)
        parts = dict(classifier.named_children())
        self.stem = parts.get("stem", nn.Identity())
        self.body = parts.get("body", nn.Identity())
        if hasattr(classifier, "from_torchvision"):
            self.from_torchvision = classifier.from_torchvision
        self.eval()
        with torch.no_grad():
            shape = self(torch.zeros(1, channels, *size)).shape
        self.train()
        if len(shape) != 4 or "body" not in parts:
            raise Refusal(
                f"backbone: {type(classifier).__name__} has no part 'body' that gives maps; take one such as"
                " models.feature_net.FeatureNet or models.resnet.ResNet"
            )
        self.width = shape[1]
        self.grid = (shape[2], shape[3])
        self.stride = round(size[0] / shape[2])

    def forward(self, x: Tensor) -> Tensor:
        """Return maps [B, width, *grid] of pictures [B, channels, *size]."""
        return self.body(self.stem(x))
