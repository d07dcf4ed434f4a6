"""A small classifier of convolution blocks, made to be the backbone of detectors (notes: SSD's base network)."""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import Refusal
from ..layers.convolution_block import convolution_block
from ..recipes.ranges import Count, Counts, Natural


class FeatureNet(nn.Module):
    """Map pictures [B, channels, *size] to logits [B, classes]: `body`, the mean over all positions, `head`.

    widths: channels of each block of `convolutions` 3x3 convolutions. halvings: the first blocks that halve the sides.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        classes: int,
        widths: Counts = [16, 32, 64],  # noqa: B006  (never written to)
        convolutions: Count = 2,
        halvings: Natural = 2,
    ) -> None:
        super().__init__()
        if halvings > len(widths) or not min(size) >> halvings:
            raise Refusal(
                f"model.halvings: {len(widths)} blocks cannot halve pictures of {size} {halvings} times; lower it"
            )
        self.body = nn.Sequential()
        for index, (fan_in, width) in enumerate(zip([channels, *widths], widths, strict=False)):
            self.body.append(convolution_block(fan_in, width, convolutions, halve=index < halvings))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, classes] of pictures [B, channels, *size]."""
        return self.head(self.body(x).mean((2, 3)))
