"""What is worked out once, before training: normalisation, derived copies of pictures, and a preview to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import Refusal
from ..storage.order import derive_key
from ..storage.store import Store

Transform = Callable[[Tensor, torch.Generator], Any]  # pictures, or (pictures, what is left of them)
BLOCK = 256  # pictures in memory at once
ROWS, COLUMNS, WIDTH, DPI = 10, 10, 8, 100  # of the preview; inches, dots an inch


# ------------------------------------------------------------------------------------------------ derived pictures


class Copies:
    """`copies` changed copies of every training example, as a data set to write (see data/dataset.py).

    Each part of the original gives one part a copy: a pure function of the data, `transforms` and `seed`.
    """

    def __init__(self, store: Store, transforms: Sequence[Transform], copies: int, seed: int) -> None:
        self.split, self.transforms, self.copies, self.seed = store.split("train"), transforms, copies, seed
        self.columns, self.classes = self.split.columns, store.manifest["classes"]
        self.name, self.licence = f"{store.manifest['name']}, changed", store.manifest["licence"]
        self.source = store.manifest["source"]

    def parts(self) -> dict[str, int]:
        return {"train": self.copies * len(self.split.parts)}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        original = part % len(self.split.parts)
        end, rows = int(self.split.ends[original]), self.split.parts[original].rows
        for start in range(end - rows, end, BLOCK):
            generator = torch.Generator().manual_seed(derive_key(self.seed, part, start))
            batch = self.split.take(np.arange(start, min(start + BLOCK, end)))
            batch["image"] = apply_transforms(batch["image"], self.transforms, generator, mixing=False)
            for values in zip(*batch.values(), strict=True):
                yield dict(zip(batch, values, strict=True))


def apply_transforms(
    images: np.ndarray, transforms: Sequence[Transform], generator: torch.Generator, mixing: bool = True
) -> np.ndarray:
    """uint8 [B, H, W, C] -> the same, through batch transforms of pictures in 0..1; mixing: of labels, too."""
    pictures = torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255)
    for transform in transforms:
        made = transform(pictures, generator)
        if isinstance(made, tuple) and not mixing:
            name = type(transform).__name__
            raise Refusal(f"augment.transforms: {name} mixes labels, which copies can't keep; use task.mix")
        pictures = made[0] if isinstance(made, tuple) else made  # augment/mix.py tells the labels' shares, too
    return (pictures * 255).round_().clamp_(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


# ------------------------------------------------------------------------------------------------ preview


def draw_preview(path: str | Path, store: Store, transforms: Sequence[Transform], seed: int) -> None:
    """Draws up to ten classes, a row each: an original, then what training makes of it (PNG, 800 pixels wide)."""
    from matplotlib.figure import Figure

    split, classes = store.split("train"), store.manifest["classes"]
    originals = split.take(_one_of_each(split.take(np.arange(len(split)), ["label"])["label"]))
    generator = torch.Generator().manual_seed(derive_key(seed))
    images = [originals["image"]]
    images += [apply_transforms(originals["image"], transforms, generator) for _ in range(COLUMNS - 1)]
    grid, lines = _grid(images)
    figure = Figure(figsize=(WIDTH, WIDTH * grid.shape[0] / grid.shape[1]), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.imshow(grid)
    axes.set_yticks(lines[0], [classes[label] for label in originals["label"]])
    axes.set_xticks(lines[1][:2], ["original", "what training sees"])
    axes.xaxis.tick_top()
    axes.xaxis.get_ticklabels()[1].set_horizontalalignment("left")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})


def _one_of_each(labels: np.ndarray) -> np.ndarray:
    """The first example of each of up to ROWS classes, spread evenly over them: rows, in the classes' order."""
    _, first = np.unique(labels, return_index=True)
    return first[np.unique(np.linspace(0, len(first) - 1, ROWS).round().astype(int))]


def _grid(columns: list[np.ndarray]) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """uint8 [rows, H, W, C] for each column -> one picture with white gaps, and where its lines' middles lie."""
    rows, height, width, _ = np.max([images.shape for images in columns], axis=0)  # a crop may have another size
    gap = 1 + height // 16
    grid = np.full((rows, height + gap, len(columns), width + gap, 3), 255, np.uint8)
    for column, images in enumerate(columns):
        grid[:, : images.shape[1], column, : images.shape[2]] = images  # grey spreads over the three channels
    middles = [np.arange(n) * (side + gap) + (side - 1) / 2 for n, side in ((rows, height), (len(columns), width))]
    return grid.reshape(rows * (height + gap), len(columns) * (width + gap), 3), (middles[0], middles[1])
