"""Fit pictures of any size into one size: scaled with their proportions, in the middle of a grey ground.

Boxes and index maps follow. The geometry of a row, float32 [6], undoes it:

    x, y, width, height        of the picture within the letterbox, in pixels
    width, height              of the original picture
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .masks import BACKGROUND

GROUND = 127  # grey level around a picture


class Letterbox:
    """A letterbox of `height` x `width` pixels."""

    def __init__(self, height: int, width: int) -> None:
        self.height = height
        self.width = width

    def place(self, width: int, height: int) -> np.ndarray:
        """Return the geometry float32 [6] of a picture of `width` x `height` pixels."""
        scale = min(self.width / width, self.height / height)
        new_width = min(self.width, max(1, round(width * scale)))
        new_height = min(self.height, max(1, round(height * scale)))
        x, y = (self.width - new_width) // 2, (self.height - new_height) // 2
        return np.array([x, y, new_width, new_height, width, height], np.float32)

    def fit_picture(self, image: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return Pillow's `image` in the letterbox, uint8 [height, width, channels], and its geometry."""
        from PIL import Image

        geometry = self.place(*image.size)
        x, y, width, height = geometry[:4].astype(int)
        resized = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR)).reshape(height, width, -1)
        fitted = np.full((self.height, self.width, resized.shape[2]), GROUND, np.uint8)
        fitted[y : y + height, x : x + width] = resized
        return fitted, geometry

    def fit_map(self, index_map: np.ndarray, ground: int = BACKGROUND) -> np.ndarray:
        """Return an index map [H, W] in the letterbox [height, width]: nearest pixels, with `ground` around them."""
        geometry = self.place(index_map.shape[1], index_map.shape[0])
        x, y, width, height = geometry[:4].astype(int)
        fitted = np.full((self.height, self.width), ground, index_map.dtype)
        fitted[y : y + height, x : x + width] = _resize_nearest(index_map, height, width)
        return fitted


def fit_boxes(boxes: np.ndarray, geometry: np.ndarray) -> np.ndarray:
    """Return boxes [N, 4] of the original picture in pixels of the letterbox: float32 [N, 4]."""
    numbers = geometry.astype(np.float64)
    shift = np.tile(numbers[:2], 2)
    scale = np.tile(numbers[2:4] / numbers[4:6], 2)
    return (boxes * scale + shift).astype(np.float32)


def _resize_nearest(index_map: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return [height, width] pixels of an index map [H, W], each at the centre of the pixel that it replaces."""
    rows = ((np.arange(height) + 0.5) * len(index_map) / height).astype(int)
    columns = ((np.arange(width) + 0.5) * index_map.shape[1] / width).astype(int)
    return index_map[np.ix_(rows, columns)]
