"""Learning-rate schedules: pure functions of the step, so that there is nothing to save.

Each returns the factor on the base rate at `step` (from 0) of `steps`. Over the first share `warmup` of the steps the
factor rises linearly from 1 / (number of warm-up steps) to 1. The decay runs over the other steps and would reach its
end one step after the last.
"""

from __future__ import annotations

import math

from .recipes.ranges import Count, Fraction, Proportion


def constant(step: int, steps: int, *, warmup: Fraction = 0.0) -> float:
    """Return 1 after the warm-up."""
    return _warm_up(step, steps, warmup)[0]


def cosine(step: int, steps: int, *, warmup: Fraction = 0.0, floor: Fraction = 0.0) -> float:
    """Return half a cosine from 1 down to `floor` (Loshchilov & Hutter 2017, without restarts)."""
    rise, progress = _warm_up(step, steps, warmup)
    return rise * (floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2)


def linear(step: int, steps: int, *, warmup: Fraction = 0.0, floor: Fraction = 0.0) -> float:
    """Return a line from 1 down to `floor`."""
    rise, progress = _warm_up(step, steps, warmup)
    return rise * (floor + (1 - floor) * (1 - progress))


def exponential(step: int, steps: int, *, warmup: Fraction = 0.0, floor: Proportion = 0.01) -> float:
    """Return a decay by the same factor each step, from 1 down to `floor`."""
    rise, progress = _warm_up(step, steps, warmup)
    return rise * floor**progress


def steps(step: int, steps: int, *, warmup: Fraction = 0.0, count: Count = 3, factor: Proportion = 0.1) -> float:
    """Return `count` plateaus of equal length, each `factor` times the one before."""
    rise, progress = _warm_up(step, steps, warmup)
    return rise * factor ** min(int(progress * count), count - 1)


def _warm_up(step: int, steps: int, warmup: float) -> tuple[float, float]:
    """Return the warm-up factor, and the progress of the decay from 0 to below 1."""
    rising = round(steps * warmup)
    if step < rising:
        return (step + 1) / rising, 0.0
    return 1.0, (step - rising) / max(1, steps - rising)
