"""Draw a few pictures side by side, each with its own aspect ratio."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from . import figures


@figures.styled
def draw_gallery(pictures: Sequence[np.ndarray], captions: Sequence[str]) -> Figure:
    """Draw pictures, uint8 [H, W, 3] of any size each, with their captions above them."""
    ratio = max(picture.shape[0] / picture.shape[1] for picture in pictures)
    figure = Figure(figsize=(3.2 * len(pictures), 3.2 * ratio + 0.3), layout="constrained")
    for axes, picture, caption in zip(
        figure.subplots(1, len(pictures), squeeze=False).flat, pictures, captions, strict=True
    ):
        axes.imshow(picture, interpolation="lanczos")
        axes.set_title(caption, fontsize=9)
        axes.set_axis_off()
    return figure
