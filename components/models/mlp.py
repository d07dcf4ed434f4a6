"""The multilayer perceptron, with dropout on the outputs of its hidden layers (notes: dropout)."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from ..recipes.ranges import Count, Fraction

ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "hard_sigmoid": nn.Hardsigmoid}


class MLP(nn.Module):
    """Map images [B, channels, *size] to logits [B, classes]. hidden: widths of the hidden layers."""

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        classes: int,
        hidden: list[Count] = [256],  # noqa: B006  (never written to)
        dropout: Fraction = 0.5,
        activation: Literal["relu", "sigmoid", "tanh", "hard_sigmoid"] = "relu",
    ) -> None:
        super().__init__()
        widths = [channels * size[0] * size[1], *hidden]
        self.body = nn.Sequential(nn.Flatten())
        for fan_in, fan_out in pairwise(widths):
            self.body.extend([nn.Linear(fan_in, fan_out), ACTIVATIONS[activation](), nn.Dropout(dropout)])
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, classes] of images [B, channels, *size]."""
        return self.head(self.body(x))
