"""Multilayer perceptron: hidden layers and dropout (notes: dropout, 'often on the hidden layers' output')."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from ..recipes.ranges import Count, Fraction

ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}


class MLP(nn.Module):
    """Images [B, channels, *size] -> logits [B, classes]."""

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        classes: int,
        hidden: list[Count] = [256],  # noqa: B006  (never written to)
        dropout: Fraction = 0.5,
        activation: Literal["relu", "sigmoid", "tanh"] = "relu",
    ) -> None:
        super().__init__()
        widths = [channels * size[0] * size[1], *hidden]
        self.body = nn.Sequential(nn.Flatten())
        for fan_in, fan_out in pairwise(widths):
            self.body.extend([nn.Linear(fan_in, fan_out), ACTIVATIONS[activation](), nn.Dropout(dropout)])
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))
