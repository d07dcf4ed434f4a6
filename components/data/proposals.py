"""Proposed regions by selective search: found once, offline, part by part, and stored as one more column.

Uijlings et al., "Selective Search for Object Recognition", IJCV 2013, in OpenCV's fast variant (notes: R-CNN).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import Refusal
from ..recipes.ranges import Count, NonNegative, Proportion
from ..storage.dataset import Dataset
from ..storage.store import Column


@dataclass(frozen=True)
class Search:
    """Picture -> boxes.

    most: boxes a picture; enlarge: factor on the picture's sides before, for small pictures have few regions; base,
    step: how coarse the two segmentations are that regions are merged from; smooth: sigma of their Gaussian filter, in
    enlarged pixels. Boxes with a side below `smallest` pixels or more than `largest` of the picture's area are dropped.
    """

    most: Count = 100
    enlarge: Count = 2
    base: Count = 50
    step: Count = 100
    smooth: NonNegative = 0.5
    smallest: Count = 5
    largest: Proportion = 0.5

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 1 or 3] -> float32 [N, 4]: x1, y1, x2, y2 in pixels, the end exclusive; N <= most, or 0.

        OpenCV ranks its boxes by the C library's `rand()`. Their set alone is a function of the picture, so they are
        sorted, and where there are too many a fixed shuffle says which ones stay.
        """
        import cv2

        cv2.setNumThreads(1)
        height, width = image.shape[:2]
        colour = cv2.COLOR_GRAY2BGR if image.shape[2] == 1 else cv2.COLOR_RGB2BGR
        sides = (width * self.enlarge, height * self.enlarge)
        large = cv2.resize(cv2.cvtColor(image, colour), sides, interpolation=cv2.INTER_CUBIC)
        search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
        search.setBaseImage(large)
        search.switchToSelectiveSearchFast(self.base, self.step, self.smooth)
        found = np.asarray(search.process(), dtype=np.float32).reshape(-1, 4)
        found[:, 2:] += found[:, :2]
        boxes = np.unique(found / self.enlarge, axis=0)
        sides_of = boxes[:, 2:] - boxes[:, :2]
        boxes = boxes[(sides_of.min(1) >= self.smallest) & (sides_of.prod(1) <= self.largest * height * width)]
        if len(boxes) > self.most:
            boxes = boxes[np.sort(np.random.default_rng(0).permutation(len(boxes))[: self.most])]
        return boxes


class SelectiveSearch:
    """Another data set, with a column of proposals: float32 [N, 4]."""

    def __init__(self, of: Callable[[], Dataset], search: Callable[[], Search] = Search) -> None:
        self.of, self.search = of(), search()
        column = self.of.columns.get("image")
        if (
            column is None
            or column.dtype != "uint8"
            or len(column.inner_shape) != 3
            or column.inner_shape[2] not in (1, 3)
        ):
            raise Refusal(f"of: {self.of.name} has no column 'image' of uint8 [height, width, 1 or 3] to search in")
        self.name, self.licence, self.source = self.of.name, self.of.licence, self.of.source
        self.classes = self.of.classes
        self.columns = {**self.of.columns, "proposals": Column("float32", (None, 4))}

    def parts(self) -> dict[str, int]:
        return self.of.parts()

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        for example in self.of.examples(split, part):
            yield {**example, "proposals": self.search(example["image"])}
