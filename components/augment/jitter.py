"""Change brightness, contrast, saturation and hue of pictures in 0..1 as torchvision does, each by its own draw."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import Refusal
from ..recipes.ranges import NonNegative
from .draws import draw_uniform, host_random, per_picture

# Weights of red, green and blue (ITU-R BT.601), rounded as in torchvision.
GREY = (0.2989, 0.587, 0.114)
Change = Callable[[Tensor, Tensor], Tensor]


class ColorJitter:
    """A random change of the colours of pictures [B, C, H, W], C being 1 or 3 (notes: colour jitter).

    brightness, contrast, saturation: b draws the factor from max(0, 1 - b) .. 1 + b. hue: h rotates the hue by -h .. h
    of the full circle, h at most 0.5. The changes are applied in a random order, which is the same for the whole batch.
    """

    def __init__(
        self,
        brightness: NonNegative = 0.0,
        contrast: NonNegative = 0.0,
        saturation: NonNegative = 0.0,
        hue: NonNegative = 0.0,
    ) -> None:
        if hue > 0.5:
            raise Refusal(f"hue: {hue} is more than half of the colour circle; set 0 to 0.5")
        factors = ((change_brightness, brightness), (change_contrast, contrast), (change_saturation, saturation))
        self.ranges: dict[Change, tuple[float, float]] = {
            change: (max(0.0, 1 - size), 1 + size) for change, size in factors if size
        }
        if hue:
            self.ranges[change_hue] = (-hue, hue)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        drawn = {change: draw_uniform(*span, len(images), generator) for change, span in self.ranges.items()}
        for change in host_random(generator).sample(list(drawn), len(drawn)):
            images = change(images, drawn[change])
        return images


def change_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply images [B, C, H, W] by `factor` [B]; values stay in 0..1."""
    return (images * per_picture(factor)).clamp_(0, 1)


def change_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Move images [B, C, H, W] towards (factor [B] < 1) or away from the mean grey of each."""
    mean = to_grey(images.mean((2, 3), keepdim=True))
    return (images * per_picture(factor)).add_(mean * (1 - per_picture(factor))).clamp_(0, 1)


def change_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Move images [B, C, H, W] towards (factor [B] < 1) or away from their grey versions, if C is 3."""
    if images.shape[1] == 1:
        return images
    return torch.lerp(to_grey(images), images, per_picture(factor)).clamp_(0, 1)


def change_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Rotate the hue of images [B, C, H, W] by `turn` [B], in full circles, if C is 3."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    value = images.amax(1)
    chroma = (value - images.amin(1)).clamp_(min=1e-12)
    # The hue in sixths of a circle. Selected by 0/1 weights, because `where` is ten times slower on a CPU.
    blues, greens, reds = red - green + 4 * chroma, blue - red + 2 * chroma, green - blue
    hue = blues.lerp_(greens, (green - value).eq_(0)).lerp_(reds, (red - value).eq_(0)).div_(chroma)
    hue = hue.add_(6 * turn.view(-1, 1, 1))
    hue = hue.sub_((hue / 6).floor_(), alpha=6)
    # A channel is the value minus a share of the chroma. The share grows from 0 to 1 with the distance of the hue.
    share = (hue[:, None] + hue.new_tensor([-3.0, 1.0, -1.0]).view(3, 1, 1)).abs_().sub_(3).abs_().sub_(1).clamp_(0, 1)
    return share.mul_(-chroma[:, None]).add_(value[:, None])


def to_grey(images: Tensor) -> Tensor:
    """Return the luma [B, 1, H, W] of images [B, 3, H, W]; images [B, 1, H, W] are returned as they are."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.split(1, dim=1)
    return red * GREY[0] + green * GREY[1] + blue * GREY[2]
