"""Define the records that stages and workers exchange; drivers import them, so there is no torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from components.verdicts.diagnosis import Measurements


@dataclass(frozen=True)
class FitJob:
    """One fit for the workers: what to train, and where to write it."""

    section: dict[str, Any]  # {task, fit} of a recipe
    run: str  # folder of the journal and the checkpoints
    out: str  # folder of the exported model
    seed: int


@dataclass(frozen=True)
class DataFacts:
    """Facts about a recipe's prepared data that its driver needs."""

    digest: str
    splits: tuple[str, ...]
    monitor: tuple[str, str]  # the task's monitored score, and "max" or "min"
    trivial: float | None  # loss of the best constant prediction, if there are labels


@dataclass(frozen=True)
class ServingExample:
    """The columns [B, ...] that a served model takes and returns, for up to two rows."""

    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    free: dict[str, list[int]]  # by column, the dimensions [...] that a request may choose, and what follows from them


@dataclass(frozen=True)
class FitResult:
    """Result of one recipe: the exported model's scores on its last split, and what is shown and registered of it."""

    split: str  # the test split, or validation or train where there is no other
    scores: dict[str, float]
    examples: int  # rows of the training split
    outcomes: np.ndarray | None  # [N], per-example values whose mean is the monitored score; None if it is not a mean
    measurements: Measurements
    tags: dict[str, str]
    requires: tuple[str, ...]  # packages that a served model needs
    example: ServingExample | None  # None where nothing is served
    cost: dict[str, float]
    hardware: str
    pictures: tuple[str, ...]  # paths


@dataclass(frozen=True)
class ScoredModel:
    """Scores and predictions of an exported model on one split."""

    scores: dict[str, float]
    predictions: dict[str, np.ndarray]  # [N, ...]
    measurements: Measurements


@dataclass(frozen=True)
class TrialSetup:
    """The setup that all trials of an arm share: the recipe's section, the prepared data and the seed."""

    section: dict[str, Any]  # {task, fit}
    prepared: str  # folder
    augmented: str  # folder
    seed: int
    curves: str = ""  # folder for the curves of each fold or seed; "": none are kept
