"""Diagnosis: name what limits a run, from its losses on training and held-out examples (the notes' procedure).

The final loss is split into four parts. Each is divided by the loss of the best constant prediction:

    optimisation    training loss that a model of at most the same size avoids (notes; He et al. 2016, figure 1)
    model bias      the rest of the training loss
    over-fitting    validation loss - training loss
    mismatch        test loss - validation loss

The largest part names the verdict; if all parts are small, the verdict is "fine" (Ng, Machine Learning Yearning, 2018:
'identifying bias, variance and data mismatch errors'). Signs in the curves turn model bias into optimisation: a loss
that has not fallen yet, is still falling, or rose again does not show what the model could represent.

This module measures nothing: it takes losses and returns a verdict in words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from ..safe_text import escape_markdown

if TYPE_CHECKING:
    from ..storage.store import Split

# Fractions of the constant prediction's loss, unless another unit is named.
# A tolerance of 0.1 (0.23 nats for ten classes) is a choice: Ng's desired loss depends on the problem.
TOLERANCE = 0.1
# At or above this training loss, the model has learned nothing.
STUCK = 0.95
# Training was not finished if the loss fell by FALLING within the LAST fraction of the epochs.
FALLING = 0.05
LAST = 0.2
# A loss this far above its minimum has risen again (for the validation loss: a fraction of that minimum).
RISE = 0.1
# Scores that are losses themselves.
ERRORS = {"mse", "mae"}
# A gradient norm this many times the median has exploded.
EXPLODED = 10.0

REMEDIES = {
    "fine": (),
    "model bias": (
        "use a more expressive model: more layers or units (`task.model`), or more features of the input",
        "train a smaller model on the same data as well: if its training loss is lower, optimisation is at fault",
    ),
    "optimisation": (
        "start from the smaller model that trains well, and grow it",
        "use batch normalisation, residual connections, or ReLU instead of sigmoids (`task.model`)",
        "change the learning rate, with warm-up (`fit.schedule`); use momentum or Adam (`task.optimizer`); or use a "
        "smaller batch",
        "clip the gradients (`fit.clip`); train longer (`fit.epochs`) if the loss is still falling",
    ),
    "over-fitting": (
        "use more training data, or augmentation (`task.augment`, `task.mix`)",
        "use a more constrained model: fewer parameters, shared parameters (convolutions), or fewer features",
        "use early stopping (`fit.patience`), weight decay (`task.optimizer.weight_decay`), or dropout "
        "(`task.model.dropout`)",
    ),
    "mismatch": (
        "add training examples that resemble the test split; more examples of the same kind will not help",
        "fine-tune on a few labelled examples that resemble the test split (`task.start`), or augment the training "
        "pictures to resemble it",
    ),
    "not diagnosed": (),
}


@dataclass(frozen=True)
class Evidence:
    """Losses of a run, all in the same unit and all in evaluation mode: without dropout and augmentation."""

    train: float
    # On held-out examples from the training distribution.
    validation: float | None = None
    # On the test split; without a validation loss it takes that loss's place.
    test: float | None = None
    # Loss of the best constant prediction, for example the entropy of the labels.
    trivial: float = 1.0
    # False for a model without parameters, such as a fixed kernel: nothing is optimised.
    trained: bool = True
    # One value per epoch.
    training_curve: Sequence[float] = ()
    # One value per evaluation.
    validation_curve: Sequence[float] = ()
    gradient_norms: Sequence[float] = ()
    # Training loss of each run, by name, whose model has at most as many parameters.
    smaller: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Measurements:
    """Measurements of a trained model for its diagnosis, in addition to its training curves."""

    # Split -> the model's scores on it, in evaluation mode.
    scores: Mapping[str, Mapping[str, float]]
    # The monitored score, and "max" or "min".
    monitor: tuple[str, str]
    parameters: int
    # Digest of the prepared data.
    data: str
    # Loss of the best constant prediction, in the unit of `comparable_loss`; None if the task has none.
    trivial: float | None
    # The score that measures what training minimises, so that training curves are comparable with it.
    objective: str | None = "loss"


@dataclass(frozen=True)
class Diagnosis:
    """A verdict with its reasons."""

    # A key of REMEDIES.
    verdict: str
    reasons: tuple[str, ...]
    # Part of the loss -> fraction of the constant prediction's loss.
    parts: dict[str, float] = field(default_factory=dict)

    @property
    def remedies(self) -> tuple[str, ...]:
        """Return what to try next."""
        return REMEDIES[self.verdict]

    def __str__(self) -> str:
        """Return the verdict, its reasons and its remedies as Markdown for a run's page."""
        reasons = escape_markdown("; ".join(self.reasons))  # they quote names from recipes
        lines = [f"**{self.verdict}**: {reasons}", *(f"- {remedy}" for remedy in self.remedies)]
        return "\n".join(lines)


def diagnose(evidence: Evidence) -> Diagnosis:
    """Return the verdict that the evidence supports; "not diagnosed" where a loss is not finite."""
    losses = [loss for loss in (evidence.train, evidence.validation, evidence.test) if loss is not None]
    if not all(map(math.isfinite, losses)) or not evidence.trivial > 0:
        return Diagnosis("not diagnosed", ("its losses are not finite numbers that could be compared",))
    signs = _optimisation_signs(evidence)
    finite = [name for name, loss in evidence.smaller.items() if math.isfinite(loss)]
    best = min(finite, key=lambda name: evidence.smaller[name], default=None)
    avoidable = 0.0 if best is None else max(0.0, evidence.train - evidence.smaller[best])
    parts = _split_loss(evidence, optimisation=evidence.train if signs else avoidable)
    verdict = max(parts, key=lambda name: parts[name])
    if parts[verdict] <= TOLERANCE:
        verdict = "fine"
    reasons = [_describe_losses(evidence)]
    if verdict == "optimisation":
        reasons += signs
        if best is not None and avoidable / evidence.trivial > TOLERANCE:
            reasons.append(
                f"{best}, a model of at most this size, reaches {evidence.smaller[best]:.3g} on the same training data"
            )
    if verdict == "model bias" and not evidence.smaller:
        reasons.append("no smaller model was trained on the same data for comparison")
    if verdict == "over-fitting":
        reasons += _best_epoch(evidence)
        if evidence.validation is None:
            reasons.append("without a validation split, a mismatch of the test split would look the same")
    return Diagnosis(verdict, tuple(reasons), parts)


def _split_loss(evidence: Evidence, optimisation: float) -> dict[str, float]:
    """Return each part of the final loss as a fraction of the constant prediction's loss."""
    parts = {"model bias": evidence.train - optimisation, "optimisation": optimisation}
    parts |= {"over-fitting": 0.0, "mismatch": 0.0}
    held_out = evidence.test if evidence.validation is None else evidence.validation
    if held_out is not None:
        parts["over-fitting"] = held_out - evidence.train
    if evidence.test is not None and evidence.validation is not None:
        parts["mismatch"] = evidence.test - evidence.validation
    return {name: value / evidence.trivial for name, value in parts.items()}


def _describe_losses(evidence: Evidence) -> str:
    losses = {"training": evidence.train, "validation": evidence.validation, "test": evidence.test}
    measured = ", ".join(f"{name} {value:.3g}" for name, value in losses.items() if value is not None)
    return f"loss {measured}; best constant prediction {evidence.trivial:.3g}"


def _optimisation_signs(evidence: Evidence) -> list[str]:
    """Return the signs that a large training loss is due to the optimisation, not to the model's capacity."""
    curve = evidence.training_curve
    signs: list[str] = []
    if not evidence.trained:
        return signs
    if evidence.train >= STUCK * evidence.trivial:
        signs.append("it predicts no better than a constant: it has not started to learn")
    if len(curve) >= 1 / LAST:
        earlier = curve[-1 - max(1, round(LAST * len(curve)))]
        if earlier - curve[-1] > FALLING * evidence.trivial:
            signs.append(f"the training loss was still falling: {earlier:.3g} to {curve[-1]:.3g} in the last fifth")
    if curve and curve[-1] > min(curve) + RISE * evidence.trivial:
        signs.append(
            f"the training loss reached {min(curve):.3g} before it rose to {curve[-1]:.3g}: the steps are too large"
        )
    norms = evidence.gradient_norms
    if norms and norms[-1] > EXPLODED * median(norms):
        ratio = norms[-1] / median(norms)
        signs.append(f"the gradient norm ended at {norms[-1]:.3g}, {ratio:.0f} times its median")
    return signs


def _best_epoch(evidence: Evidence) -> list[str]:
    """Return the reason that says where to stop, if the validation loss rose after its minimum."""
    curve = evidence.validation_curve
    if not curve or curve[-1] <= min(curve) + RISE * min(curve):
        return []
    epoch = min(range(len(curve)), key=lambda index: curve[index]) + 1
    return [f"the validation loss was lowest, {min(curve):.3g}, after evaluation {epoch} of {len(curve)}: stop there"]


def comparable_loss(
    scores: Mapping[str, float], monitor: tuple[str, str], objective: str | None = "loss"
) -> float | None:
    """Return the score that is trained, the loss, a squared error, or 1 - score for a score from 0 to 1; else None.

    objective: the score that is trained, if any. A distance such as FID has no scale on which it could be split.
    """
    name, direction = monitor
    for loss in (objective, "loss", name if name in ERRORS and direction == "min" else None):
        if loss is not None and loss in scores:
            return scores[loss]
    score = scores.get(name, math.nan)
    if direction == "max" and 0 <= score <= 1:
        return 1 - score
    return None


def is_rate(scores: Mapping[str, float], monitor: tuple[str, str], objective: str | None = "loss") -> bool:
    """Return whether `comparable_loss` is 1 - score, of which a constant prediction's loss is at most 1."""
    return not {objective, "loss", *(ERRORS & {monitor[0]})} & scores.keys()


def trivial_loss(split: Split) -> float | None:
    """Return the loss of the best constant prediction for a split, or None unless examples have a single label."""
    column = split.columns.get("label")
    if column is None or column.shape:
        return None
    return entropy(np.unique(split.array("label"), return_counts=True)[1].tolist())


def entropy(counts: Sequence[int]) -> float:
    """Return the entropy in nats of labels with these counts: the cross-entropy of the best constant prediction."""
    total = sum(counts)
    return -sum(count / total * math.log(count / total) for count in counts if count)
