"""A plain convolutional network whose parts can be compared: kernels, depth, padding, pooling or strides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from ..errors import Refusal
from ..layers.initial import init_for_relu
from ..layers.receptive_field import Field, receptive_fields
from ..recipes.ranges import Count, Counts


class ConvNet(nn.Module):
    """Map images [B, channels, *size] to logits [B, classes]: blocks of convolutions, a mean over positions, a layer.

    convolutions, widths: number of convolutions in each block, and their channels. kernel: side of each convolution,
    odd, so that the sides stay. down: how a block halves the sides at its end: by pooling, or by the stride of its last
    convolution. padding: what lies beyond the border (notes). norm: makes the layer behind each convolution from its
    number of channels. transformer: makes a layer in front, such as layers.spatial_transformer.SpatialTransformer, from
    channels and size.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        classes: int,
        convolutions: Counts = [2, 2],  # noqa: B006  (never written to)
        widths: Counts = [16, 32],  # noqa: B006
        kernel: Count = 3,
        down: Literal["max", "average", "stride"] = "max",
        padding: Literal["zeros", "reflect", "replicate", "circular"] = "zeros",
        norm: Callable[..., nn.Module] | None = None,
        transformer: Callable[..., nn.Module] | None = None,
    ) -> None:
        super().__init__()
        _check_shape(convolutions, widths, kernel, size)
        self.size = size
        self.front = nn.Identity() if transformer is None else transformer(channels=channels, size=size)
        self.body = nn.Sequential()
        for count, fan_in, width in zip(convolutions, [channels, *widths], widths, strict=False):
            for index in range(count):
                strided = down == "stride" and index == count - 1
                self.body.append(
                    nn.Conv2d(
                        fan_in if index == 0 else width,
                        width,
                        kernel,
                        stride=2 if strided else 1,
                        padding=kernel // 2,
                        padding_mode=padding,
                    )
                )
                if norm is not None:
                    self.body.append(norm(width))
                self.body.append(nn.ReLU(inplace=True))
            if down != "stride":
                self.body.append(nn.MaxPool2d(2) if down == "max" else nn.AvgPool2d(2))
        init_for_relu(self.body)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, classes] of images [B, channels, *size]."""
        return self.head(self.body(self.front(x)).mean((2, 3)))

    def receptive_fields(self) -> list[Field]:
        """Return the receptive field of each convolution and pooling, without the layer in front."""
        return receptive_fields(self.body)


def _check_shape(convolutions: list[int], widths: list[int], kernel: int, size: tuple[int, int]) -> None:
    if len(convolutions) != len(widths):
        raise Refusal(
            f"task.model: convolutions and widths have {len(convolutions)} and {len(widths)} blocks; list the same"
            " number in both"
        )
    if kernel % 2 == 0:
        raise Refusal(
            f"task.model.kernel: {kernel} is even, which would shift the picture by half a pixel; use an odd one"
        )
    if min(size) < 2 ** len(widths):
        raise Refusal(
            f"task.model: pictures of {size} are too small for {len(widths)} blocks that halve the sides;"
            " use fewer blocks or larger pictures"
        )
