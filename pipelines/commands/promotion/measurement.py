"""Results of one model on the held-out examples: what workers send to the driver, which imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class Measurement:
    """Scores, latency and size of one model.

    outcomes: per-example values [N] whose mean is the monitored score; greater is better. predicted: labels [N], or
    None if the task predicts no labels. monitor: name of the monitored score. latency_ms: median milliseconds per
    example. megabytes: size of the weights.
    """

    outcomes: np.ndarray
    predicted: np.ndarray | None
    scores: dict[str, float]
    monitor: str
    megabytes: float
    latency_ms: float = 0.0
