"""Learning-rate schedules: pure functions of the step, so there is nothing to save and nothing to drift.

Each returns the factor on the base rate at `step` of `steps` (0-based). The first `warmup` share of the steps rises
linearly from 1/(warm-up steps) to 1; the decay runs over the rest, and the last step is one before its end.
"""

from __future__ import annotations

import math

from .recipes.ranges import Count, Fraction, Proportion


def constant(step: int, steps: int, *, warmup: Fraction = 0.0) -> float:
    return _warm(step, steps, warmup)[0]


def cosine(step: int, steps: int, *, warmup: Fraction = 0.0, floor: Fraction = 0.0) -> float:
    """Half a cosine from 1 down towards `floor` (Loshchilov & Hutter 2017, without restarts)."""
    rise, progress = _warm(step, steps, warmup)
    return rise * (floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2)


def linear(step: int, steps: int, *, warmup: Fraction = 0.0, floor: Fraction = 0.0) -> float:
    rise, progress = _warm(step, steps, warmup)
    return rise * (floor + (1 - floor) * (1 - progress))


def exponential(step: int, steps: int, *, warmup: Fraction = 0.0, floor: Proportion = 0.01) -> float:
    """Falls by the same factor each step; the one behind the last would have `floor`."""
    rise, progress = _warm(step, steps, warmup)
    return rise * floor**progress


def steps(step: int, steps: int, *, warmup: Fraction = 0.0, count: Count = 3, factor: Proportion = 0.1) -> float:
    """`count` equal plateaus, each `factor` times the one before."""
    rise, progress = _warm(step, steps, warmup)
    return rise * factor ** min(int(progress * count), count - 1)


def _warm(step: int, steps: int, warmup: float) -> tuple[float, float]:
    """The warm-up factor, and how far the decay has come (0 ... below 1)."""
    rising = round(steps * warmup)
    if step < rising:
        return (step + 1) / rising, 0.0
    return 1.0, (step - rising) / max(1, steps - rising)
