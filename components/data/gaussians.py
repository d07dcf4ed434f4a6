"""Points around a ring of Gaussians: the toy on which a GAN that drops modes is caught (Metz et al. 2017)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..recipes.ranges import Count, Natural, Positive
from ..storage.store import Column

PART = 8192  # points


class Gaussians:
    """`per_class` points to train on around each of `modes` centres on a circle; as classes they are labelled, too.

    radius, deviation: of the circle and of each Gaussian, in units of the plane. A quarter as many points are for
    validation, and as many again for testing.
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
        self.modes, self.radius, self.deviation, self.seed = modes, radius, deviation, seed
        self.rows = {"train": per_class * modes} | dict.fromkeys(("validation", "test"), -(-per_class // 4) * modes)
        self.classes = [f"{360 * mode // modes}°" for mode in range(modes)]
        self.columns = {"point": Column("float32", (2,)), "label": Column("int64")}

    def parts(self) -> dict[str, int]:
        return {split: -(-rows // PART) for split, rows in self.rows.items()}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        random = np.random.default_rng([self.seed, list(self.rows).index(split), part])
        first, last = part * PART, min((part + 1) * PART, self.rows[split])
        labels = np.arange(first, last) % self.modes
        angles = 2 * np.pi * labels / self.modes
        centres = self.radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        points = (centres + self.deviation * random.standard_normal((last - first, 2))).astype(np.float32)
        for point, label in zip(points, labels, strict=True):
            yield {"point": point, "label": int(label)}
