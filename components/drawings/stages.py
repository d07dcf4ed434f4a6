"""Draw what a computation makes of a few pictures, a row per stage."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from .figures import add_title, styled


@styled
def draw_stages(stages: Mapping[str, np.ndarray], title: str) -> Figure:
    """Draw {name: pictures [N, H, W]}, each row with its own range of grey levels and its size."""
    count = len(next(iter(stages.values())))
    figure = Figure(figsize=(1.2 * count + 1.6, 1.25 * len(stages) + 0.5), layout="constrained")
    add_title(figure, title)
    for row, (name, pictures) in zip(figure.subplots(len(stages), count, squeeze=False), stages.items(), strict=True):
        for axes, picture in zip(row, pictures, strict=True):
            axes.imshow(picture, cmap="gray", vmin=pictures.min(), vmax=pictures.max(), interpolation="none")
            axes.set(xticks=[], yticks=[])
            axes.grid(visible=False)
        height, width = pictures.shape[1:]
        row[0].set_ylabel(f"{name}\n{height} x {width}", rotation=0, ha="right", va="center", fontsize=8)
    return figure
