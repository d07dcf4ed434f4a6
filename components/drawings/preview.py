"""Draw what the picture transforms of training make of a few examples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from ..augment.copies import Transform, apply_transforms
from ..storage.order import derive_key
from ..storage.store import Store
from .figures import plain, shorten

ROWS, COLUMNS = 10, 10
WIDTH = 8  # inches
DPI = 100  # dots per inch


def draw_preview(path: str | Path, store: Store, transforms: Sequence[Transform], seed: int) -> None:
    """Write a PNG, 800 pixels wide, with one row for each of up to ten classes.

    Each row shows one training example, then nine draws of `transforms` from a random stream keyed by `seed`. `store`
    has a split "train" with columns "image" (uint8 [H, W, C]) and "label".
    """
    split = store.split("train")
    classes = store.manifest["classes"]
    labels = split.take(np.arange(len(split)), ["label"])["label"]
    originals = split.take(_pick_one_per_class(labels))
    generator = torch.Generator().manual_seed(derive_key(seed))
    columns = [originals["image"]]
    columns += [apply_transforms(originals["image"], transforms, generator) for _ in range(COLUMNS - 1)]
    picture, row_centres, column_centres = _tile(columns)
    figure = Figure(figsize=(WIDTH, WIDTH * picture.shape[0] / picture.shape[1]), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.imshow(picture)
    axes.set_yticks(row_centres, [plain(shorten(classes[label])) for label in originals["label"]])
    axes.set_xticks(column_centres[:2], ["original", "what training sees"])
    axes.xaxis.tick_top()
    axes.xaxis.get_ticklabels()[1].set_horizontalalignment("left")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})


def _pick_one_per_class(labels: np.ndarray) -> np.ndarray:
    """Return the row of the first example of up to ROWS classes, which are spread evenly and in ascending order."""
    _, first = np.unique(labels, return_index=True)
    return first[np.unique(np.linspace(0, len(first) - 1, ROWS).round().astype(int))]


def _tile(columns: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Join columns of pictures, uint8 [rows, H, W, C] each, into one picture with white gaps.

    Return (picture uint8 [height, width, 3], centre of each row, centre of each column), the centres in pixels.
    """
    # A transform may change the size of a picture: the largest one sets the size of a cell.
    rows, height, width, _ = np.max([images.shape for images in columns], axis=0)
    gap = 1 + height // 16
    picture = np.full((rows, height + gap, len(columns), width + gap, 3), 255, np.uint8)
    for column, images in enumerate(columns):
        picture[:, : images.shape[1], column, : images.shape[2]] = images  # one channel is broadcast to three
    row_centres = np.arange(rows) * (height + gap) + (height - 1) / 2
    column_centres = np.arange(len(columns)) * (width + gap) + (width - 1) / 2
    return picture.reshape(rows * (height + gap), len(columns) * (width + gap), 3), row_centres, column_centres
