"""Points around a ring of Gaussians: the toy data that reveal whether a GAN drops modes (Metz et al. 2017)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..recipes.ranges import Count, Natural, Positive
from ..storage.store import Column

ROWS_PER_PART = 8192


class Gaussians:
    """Labelled points around `modes` centres on a circle; each mode is a class with `per_class` training examples.

    radius: of the circle; deviation: standard deviation of each Gaussian; both in units of the plane. Validation and
    test split have a quarter as many points each, rounded up per class.
    """

    name = "gaussians"
    licence = "CC0"
    source = "drawn here"

    def __init__(
        self,
        modes: Count = 8,
        per_class: Count = 512,
        radius: Positive = 1.0,
        deviation: Positive = 0.05,
        seed: Natural = 0,
    ) -> None:
        self.modes = modes
        self.radius = radius
        self.deviation = deviation
        self.seed = seed
        held_out = -(-per_class // 4) * modes
        self.rows = {"train": per_class * modes, "validation": held_out, "test": held_out}
        self.classes = [f"{360 * mode // modes}°" for mode in range(modes)]
        self.columns = {"point": Column("float32", (2,)), "label": Column("int64")}

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}."""
        return {split: -(-rows // ROWS_PER_PART) for split, rows in self.rows.items()}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the points of one part; the classes take turns."""
        random = np.random.default_rng([self.seed, list(self.rows).index(split), part])
        first = part * ROWS_PER_PART
        last = min((part + 1) * ROWS_PER_PART, self.rows[split])
        labels = np.arange(first, last) % self.modes
        angles = 2 * np.pi * labels / self.modes
        centres = self.radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        points = (centres + self.deviation * random.standard_normal((last - first, 2))).astype(np.float32)
        for point, label in zip(points, labels, strict=True):
            yield {"point": point, "label": int(label)}
