"""The objective of a search: a function that runs one rung of a trial, and its arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Scores = dict[str, float]  # {name: value}


@dataclass(frozen=True)
class Rung:
    """One rung of a trial: a fold, a seed, or the next epoch of one fit."""

    values: dict[str, Any]  # {dotted key: value} in place of the recipe's
    number: int  # from 0
    accumulate: int = 1  # microbatches per batch, more after running out of memory


@dataclass(frozen=True)
class Objective:
    """The function to optimise for each arm.

    function: `function(rung, **arguments)` returns the scores of one rung; a dotted path is imported on the worker.
    arms: {arm: arguments}. rungs: per trial. monitor: (score, "max" or "min").
    cumulative: each rung goes on from the one before, with what that left in the additional argument `folder`. A
    trial's scores are then those of its last rung, otherwise the mean over its rungs.
    gpu: each trial gets a GPU, or a share of one (TRAINYARD_TRIALS_PER_GPU).
    identity: digest of all that decides a trial's scores beside its values; trials of earlier searches with the same
    identity are not run again. "": of none.
    """

    function: Callable[..., Scores] | str
    arms: dict[str, dict[str, Any]]
    rungs: int
    monitor: tuple[str, str]
    cumulative: bool = False
    gpu: bool = False
    identity: str = ""
