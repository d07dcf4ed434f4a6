"""Compute which input positions an output of stacked convolutions and poolings sees (notes: receptive field).

A layer of kernel k, stride s and dilation d widens the field by (k - 1) * d times the distance, in input positions,
between adjacent positions of its input; s multiplies that distance.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

WINDOWS = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)


@dataclass(frozen=True)
class Field:
    """The field of one layer along a side: output position i sees the input from start + i * jump, `size` positions."""

    layer: str
    size: int
    jump: int
    start: int  # below 0 where the field reaches into the padding

    def interval(self, position: int, side: int) -> tuple[int, int]:
        """Return the first and the last input position, within a side of `side`, that output `position` sees.

        At the far border a deeper layer may see its own padding instead: the interval is then an upper bound.
        """
        first = self.start + position * self.jump
        return max(0, first), min(side - 1, first + self.size - 1)


def receptive_fields(net: nn.Module) -> list[Field]:
    """Return the field of each convolution and pooling in `net`, which must call them one after the other."""
    size, jump, start = 1, 1, 0
    fields = []
    for name, layer in net.named_modules():
        if isinstance(layer, WINDOWS):
            kernel, stride, padding = (_side(getattr(layer, key)) for key in ("kernel_size", "stride", "padding"))
            dilation = _side(getattr(layer, "dilation", 1))
            size += (kernel - 1) * dilation * jump
            start -= padding * jump
            jump *= stride
            fields.append(Field(name, size, jump, start))
    return fields


def _side(value: int | tuple[int, ...]) -> int:
    """Return the value for one side of a square window."""
    return value if isinstance(value, int) else value[0]
