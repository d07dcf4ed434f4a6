"""Region proposals by selective search: computed once, offline, and stored as one more column.

Uijlings et al., "Selective Search for Object Recognition", IJCV 2013, in OpenCV's fast variant (notes: R-CNN).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import Refusal
from ..recipes.ranges import Count, NonNegative, Proportion
from ..storage.dataset import Dataset, Fault
from ..storage.store import Column


@dataclass(frozen=True)
class Search:
    """A function from a picture to its proposed boxes.

    most: boxes per picture, at most
    enlarge: factor by which the picture's sides grow before the search, because small pictures have few regions
    base, step: coarseness of the two segmentations whose regions are merged
    smooth: standard deviation of their Gaussian filter, in enlarged pixels
    smallest: pixels that each side of a box must have
    largest: share of the picture's area that a box may cover
    """

    most: Count = 100
    enlarge: Count = 2
    base: Count = 50
    step: Count = 100
    smooth: NonNegative = 0.5
    smallest: Count = 5
    largest: Proportion = 0.5

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the boxes of uint8 [H, W, 1 or 3]: float32 [N, 4], x1, y1, x2, y2 in pixels, the end exclusive.

        N is at most `most` and may be 0.
        """
        import cv2

        cv2.setNumThreads(1)
        height, width = image.shape[:2]
        colour = cv2.COLOR_GRAY2BGR if image.shape[2] == 1 else cv2.COLOR_RGB2BGR
        enlarged_size = (width * self.enlarge, height * self.enlarge)
        enlarged = cv2.resize(cv2.cvtColor(image, colour), enlarged_size, interpolation=cv2.INTER_CUBIC)
        search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
        search.setBaseImage(enlarged)
        search.switchToSelectiveSearchFast(self.base, self.step, self.smooth)
        boxes = np.asarray(search.process(), dtype=np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]  # x, y, width, height -> corners
        # OpenCV ranks the boxes by the C library's rand(). Only their set is a function of the picture, so they are
        # sorted, and a fixed shuffle selects among too many.
        boxes = np.unique(boxes / self.enlarge, axis=0)
        sides = boxes[:, 2:] - boxes[:, :2]
        boxes = boxes[(sides.min(1) >= self.smallest) & (sides.prod(1) <= self.largest * height * width)]
        if len(boxes) > self.most:
            boxes = boxes[np.sort(np.random.default_rng(0).permutation(len(boxes))[: self.most])]
        return boxes

    def propose(self, batch: dict[str, Any]) -> list[np.ndarray]:
        """Return the boxes [N, 4] per picture: the column "proposals" of a batch, or those of a new search."""
        if "proposals" in batch:
            return list(batch["proposals"])
        return [self(image) for image in batch["image"].cpu().numpy()]


class SelectiveSearch:
    """The data set `of` with one more column of proposals, float32 [N, 4]."""

    def __init__(self, of: Callable[[], Dataset], search: Callable[[], Search] = Search) -> None:
        self.of = of()
        self.search = search()
        column = self.of.columns.get("image")
        shape = () if column is None else column.inner_shape
        if column is None or column.dtype != "uint8" or len(shape) != 3 or shape[2] not in (1, 3):
            raise Refusal(f"of: {self.of.name} has no column 'image' of uint8 [height, width, 1 or 3] to search in")
        self.name = self.of.name
        self.licence = self.of.licence
        self.source = self.of.source
        self.classes = self.of.classes
        for name in ("bad", "duplicates", "conflicts", "locate", "remarks"):
            if hasattr(self.of, name):
                setattr(self, name, getattr(self.of, name))
        self.columns = {**self.of.columns, "proposals": Column("float32", (None, 4))}

    @property
    def notes(self) -> list[str]:
        """Return the notes of the wrapped data set."""
        return list(getattr(self.of, "notes", ()))

    def parts(self) -> dict[str, int]:
        """Return the parts of the wrapped data set."""
        return self.of.parts()

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any] | Fault]:
        """Yield the wrapped data set's examples with their proposals."""
        for example in self.of.examples(split, part):
            if isinstance(example, Fault):
                yield example
            else:
                yield {**example, "proposals": self.search(example["image"])}
