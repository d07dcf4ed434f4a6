"""Derive changed copies of the training pictures, once, before training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..errors import Refusal
from ..storage.order import derive_key
from ..storage.store import Store

BLOCK = 256  # pictures in memory at once


class Transform(Protocol):
    """A random change of a batch of pictures."""

    def __call__(self, images: Tensor, generator: torch.Generator, /) -> Any:
        """Return the changed pictures [B, C, H, W], or a pair of them and the label shares (augment/mix.py)."""


class Copies:
    """A data set of changed copies of every training example (see storage/dataset.py).

    Each part of the original yields one part per copy. Its examples are a pure function of the data, `transforms` and
    `seed`; all columns but "image" stay as they are.
    """

    def __init__(self, store: Store, transforms: Sequence[Transform], copies: int, seed: int) -> None:
        self.split = store.split("train")
        self.transforms, self.copies, self.seed = transforms, copies, seed
        self.columns, self.classes = self.split.columns, store.manifest["classes"]
        self.name, self.licence = f"{store.manifest['name']}, changed", store.manifest["licence"]
        self.source = store.manifest["source"]

    def parts(self) -> dict[str, int]:
        """Return the number of parts of the only split, "train"."""
        return {"train": self.copies * len(self.split.parts)}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the examples of one part: {column: value}, "image" as uint8 [H, W, C]."""
        original = part % len(self.split.parts)
        end = int(self.split.ends[original])
        for start in range(end - self.split.parts[original].rows, end, BLOCK):
            generator = torch.Generator().manual_seed(derive_key(self.seed, part, start))
            batch = self.split.take(np.arange(start, min(start + BLOCK, end)))
            batch["image"] = apply_transforms(batch["image"], self.transforms, generator, mixing=False)
            for values in zip(*batch.values(), strict=True):
                yield dict(zip(batch, values, strict=True))


def apply_transforms(
    images: np.ndarray, transforms: Sequence[Transform], generator: torch.Generator, mixing: bool = True
) -> np.ndarray:
    """Apply batch transforms to pictures, uint8 [B, H, W, C], and return them as uint8 [B, H, W, C].

    The transforms see values in 0..1. With `mixing` False, raise Refusal for a transform that mixes labels.
    """
    pictures = torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255)
    for transform in transforms:
        result = transform(pictures, generator)
        if isinstance(result, tuple):
            if not mixing:
                name = type(transform).__name__
                raise Refusal(f"augment.transforms: {name} mixes labels, but a copy has only one; use task.mix instead")
            result = result[0]
        pictures = result
    return (pictures * 255).round_().clamp_(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()
