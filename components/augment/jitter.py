"""Brightness, contrast, saturation and hue of pictures in 0..1, changed as torchvision does, each by its own draw."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import Refusal
from ..recipes.ranges import NonNegative
from .draws import draw_uniform, host_random, per_picture

GREY = (0.2989, 0.587, 0.114)  # weights of red, green and blue (ITU-R BT.601, as torchvision rounds them)
Change = Callable[[Tensor, Tensor], Tensor]


class ColorJitter:
    """[B, C, H, W] -> the same shape, C being 1 or 3 (notes: colour jitter).

    brightness, contrast, saturation: b draws the factor from max(0, 1 - b) .. 1 + b; hue: h turns the hue by -h .. h of
    the whole circle, h at most 0.5. The changes come in a random order, one for the batch.
    """

    def __init__(
        self,
        brightness: NonNegative = 0.0,
        contrast: NonNegative = 0.0,
        saturation: NonNegative = 0.0,
        hue: NonNegative = 0.0,
    ) -> None:
        if hue > 0.5:
            raise Refusal(f"hue: {hue} is more than half of the circle; give 0 to 0.5")
        factors = ((change_brightness, brightness), (change_contrast, contrast), (change_saturation, saturation))
        self.ranges: dict[Change, tuple[float, float]] = {c: (max(0.0, 1 - b), 1 + b) for c, b in factors if b}
        if hue:
            self.ranges[change_hue] = (-hue, hue)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        drawn = {change: draw_uniform(*span, len(images), generator) for change, span in self.ranges.items()}
        for change in host_random(generator).sample(list(drawn), len(drawn)):
            images = change(images, drawn[change])
        return images


def change_brightness(images: Tensor, factor: Tensor) -> Tensor:
    return (images * per_picture(factor)).clamp_(0, 1)


def change_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Towards (factor < 1) or away from the mean grey of the picture."""
    mean = to_grey(images.mean((2, 3), keepdim=True))
    return (images * per_picture(factor)).add_(mean * (1 - per_picture(factor))).clamp_(0, 1)


def change_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Towards or away from the picture in grey; grey pictures stay as they are."""
    if images.shape[1] == 1:
        return images
    return torch.lerp(to_grey(images), images, per_picture(factor)).clamp_(0, 1)


def change_hue(images: Tensor, turn: Tensor) -> Tensor:
    """The hue turned by `turn` circles; grey pictures stay as they are."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    value = images.amax(1)
    chroma = (value - images.amin(1)).clamp_(min=1e-12)
    # The hue in sixths of a circle. Chosen by 0/1 weights, not `where`, which is ten times as slow on a processor.
    blues, greens, reds = red - green + 4 * chroma, blue - red + 2 * chroma, green - blue
    hue = blues.lerp_(greens, (green - value).eq_(0)).lerp_(reds, (red - value).eq_(0)).div_(chroma)
    hue = hue.add_(6 * turn.view(-1, 1, 1))
    hue = hue.sub_((hue / 6).floor_(), alpha=6)
    # A channel is the value less a share of the chroma, which grows from 0 to 1 with the hue's distance from it.
    away = (hue[:, None] + hue.new_tensor([-3.0, 1.0, -1.0]).view(3, 1, 1)).abs_().sub_(3).abs_().sub_(1).clamp_(0, 1)
    return away.mul_(-chroma[:, None]).add_(value[:, None])


def to_grey(images: Tensor) -> Tensor:
    """[B, 3, H, W] -> [B, 1, H, W]; pictures of one channel are grey already."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.split(1, dim=1)
    return red * GREY[0] + green * GREY[1] + blue * GREY[2]
