"""Scenes of handwritten digits with what they contain: which digits occur, and how many digits there are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..recipes.ranges import Count, Natural, Proportion
from ..storage.store import Column
from .scenes import Scenes


class SceneContents:
    """The scenes of `data.scenes.Scenes`, as image uint8 [size, size, 1].

    Columns "labels", uint8 [10], 1 where a digit occurs, for multi-label classification; and "y", float32, the number
    of digits, for regression. The arguments are those of `Scenes`.
    """

    name = "scene-contents"
    licence = Scenes.licence
    source = Scenes.source

    def __init__(
        self,
        count: Count = 400,
        validation: Natural = 0,
        test: Count = 200,
        most: Count = 4,
        size: Count = 64,
        seed: Natural = 0,
        smallest: Proportion = 0.25,
        largest: Proportion = 0.5,
    ) -> None:
        self.scenes = Scenes(count, validation, test, most, size, seed, smallest, largest)
        self.classes = self.scenes.classes
        self.columns = {
            "image": self.scenes.columns["image"],
            "labels": Column("uint8", (len(self.classes),)),
            "y": Column("float32"),
        }

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}."""
        return self.scenes.parts()

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the scenes of one part."""
        for scene in self.scenes.examples(split, part):
            occurs = np.isin(np.arange(len(self.classes)), scene["labels"]).astype(np.uint8)
            yield {"image": scene["image"], "labels": occurs, "y": np.float32(len(scene["labels"]))}
