"""The names under which a run's metrics appear in its journal and on the tracking server."""

from __future__ import annotations

LEARNING_RATE = "learning_rate"
EXAMPLES_PER_SECOND = "train/examples_per_second"
EPOCH = "epoch"  # the number of epochs, with fractions, at each step
NOISE_SCALE = "noise_scale"  # of the gradient, among the means since the last line


def since_last_line(values: dict[str, float]) -> dict[str, float]:
    """Return means over the steps since the journal's last line under their names."""
    return {f"train/{name}": value for name, value in values.items()}


def over_epoch(values: dict[str, float]) -> dict[str, float]:
    """Return means over an epoch of training under their names."""
    return {f"epoch/{name}": value for name, value in values.items()}


def of_validation(scores: dict[str, float]) -> dict[str, float]:
    """Return the scores of an evaluation under their names."""
    return {f"validation/{name}": value for name, value in scores.items()}


def is_over_epoch(name: str) -> bool:
    """Return whether a metric is a mean over an epoch, which has no place on an axis of steps."""
    return name.startswith("epoch/")


def against_epoch(name: str) -> str | None:
    """Return the name of a metric on an axis of epochs, or None where it belongs on an axis of steps alone."""
    group, _, rest = name.partition("/")
    if group == "epoch":
        return f"epoch/train/{rest}"
    if group == "validation":
        return f"epoch/validation/{rest}"
    return None
