"""Turn pictures of any size into inputs of a network, and lead its boxes back (letterboxing)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

GROUND = 127  # grey level around a picture


def standardise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return images uint8 [B, H, W, C] as network inputs float [B, C, H, W], channels last.

    mean, std: [C, 1, 1], of pixels in 0..1.
    """
    pixels = images.permute(0, 3, 1, 2).float().div_(255)
    return (pixels - mean.to(images.device)) / std.to(images.device)


@dataclass(frozen=True)
class Letterbox:
    """The place of pictures of `source` pixels (height, width) in `target` pixels: as components/data/letterbox.py.

    The sides keep their ratio, and the scaled picture lies in the middle of a grey ground.
    """

    source: tuple[int, int]
    target: tuple[int, int]

    @property
    def place(self) -> tuple[int, int, int, int]:
        """Return y, x, height and width of the scaled picture, the largest that fits into the target."""
        scale = min(wide / narrow for wide, narrow in zip(self.target, self.source, strict=True))
        height, width = (
            min(most, max(1, round(side * scale))) for side, most in zip(self.source, self.target, strict=True)
        )
        return (self.target[0] - height) // 2, (self.target[1] - width) // 2, height, width

    def fit(self, images: Tensor) -> Tensor:
        """Return images uint8 [B, *source, C] as uint8 [B, *target, C], bilinear; larger ones are averaged."""
        if self.source == self.target:
            return images
        y, x, height, width = self.place
        pixels = images.permute(0, 3, 1, 2).float()
        scaled = F.interpolate(pixels, (height, width), mode="bilinear", antialias=True).round().clamp(0, 255)
        below, beside = self.target[0] - height - y, self.target[1] - width - x
        fitted = F.pad(scaled, (x, beside, y, below), value=GROUND)
        return fitted.to(torch.uint8).permute(0, 2, 3, 1)

    def fit_boxes(self, boxes: Tensor) -> Tensor:
        """Return boxes [..., 4] of the source in pixels of the target."""
        shift, factors = self._geometry(boxes)
        return boxes * factors + shift

    def restore_boxes(self, boxes: Tensor) -> Tensor:
        """Return boxes [..., 4] of the target in pixels of the source, clipped to it."""
        shift, factors = self._geometry(boxes)
        height, width = self.source
        most = boxes.new_tensor([width, height, width, height])
        return torch.minimum(((boxes - shift) / factors).clamp(min=0), most)

    def _geometry(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the shift and the factors, [4] each, that lead boxes from the source to the target."""
        y, x, height, width = self.place
        factors = [width / self.source[1], height / self.source[0]]
        return boxes.new_tensor([x, y, x, y]), boxes.new_tensor(factors * 2)
