"""What ails a run, from its losses: first those on the training examples, then those on examples held out (notes).

The loss that is left at the end is split into four parts, each a share of what the best constant answer loses:

    optimisation    what a model no larger gets lower on the *training* set (notes; He et al. 2016, figure 1)
    model bias      the rest of the training loss
    over-fitting    validation loss - training loss
    mismatch        test loss - validation loss

The greatest part names the verdict, or none does if all are small (Ng, Machine Learning Yearning, 2018: 'identifying
bias, variance and data mismatch errors'). Signs in the curves turn bias into optimisation: a model that has not begun
to learn, learns still, or was thrown back, says nothing of what it could represent.

Nothing here is measured: losses in, words out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..storage.store import Split

# Shares of the loss of the best constant answer. TOLERANCE is a choice (0.23 nats for ten classes): the desired loss
# that Ng asks for is the problem's own, and not known here.
TOLERANCE = 0.1
STUCK = 0.95  # of the constant answer's loss: nothing was learned
FALLING, LAST = 0.05, 0.2  # so much of the loss fell within the last fifth of the epochs: it was not done
RISE = 0.1  # above its lowest: thrown back (training), past its best (validation)
EXPLODED = 10.0  # times the median norm of the gradient

REMEDIES = {
    "fine": (),
    "model bias": (
        "a model that can express more: more layers or units (`task.model`), more features of the input",
        "train a smaller model on the same data, too: if it gets a lower training loss, it is the optimisation",
    ),
    "optimisation": (
        "begin with the smaller model that trains, and grow it",
        "batch normalisation, residual connections, ReLU instead of sigmoids (`task.model`)",
        "another learning rate, with warm-up (`fit.schedule`); momentum or Adam (`task.optimizer`); a smaller batch",
        "clip the gradients (`fit.clip`); train longer (`fit.epochs`) if the loss still falls",
    ),
    "over-fitting": (
        "more training data, or augmentation (`task.augment`, `task.mix`)",
        "a model with less freedom: fewer parameters, shared ones (convolutions), fewer features",
        "early stopping (`fit.patience`), weight decay (`task.optimizer.weight_decay`), dropout (`task.model.dropout`)",
    ),
    "mismatch": (
        "training examples that look like those of the test; more of the same kind will not help",
        "fine-tune on a few labels of the test's kind (`task.start`), or augment the training pictures towards them",
    ),
    "not diagnosed": (),
}


@dataclass(frozen=True)
class Evidence:
    """Losses in the same unit, in evaluation mode where the training went through dropout and augmentation."""

    train: float
    validation: float | None = None  # on examples held out, of the same kind
    test: float | None = None  # on the split kept for the end; alone, it stands for validation
    trivial: float = 1.0  # of the best constant answer, e.g. the entropy of the labels
    training_curve: Sequence[float] = ()  # by epoch
    validation_curve: Sequence[float] = ()
    gradient_norms: Sequence[float] = ()
    smaller: Mapping[str, float] = field(default_factory=dict)  # name of a run of no larger a model -> its `train`


@dataclass(frozen=True)
class Diagnosis:
    verdict: str  # a key of REMEDIES
    reasons: tuple[str, ...]
    parts: dict[str, float] = field(default_factory=dict)  # share of the constant answer's loss

    @property
    def remedies(self) -> tuple[str, ...]:
        return REMEDIES[self.verdict]

    def __str__(self) -> str:
        """Markdown, for a run's page."""
        lines = [f"**{self.verdict}**: {'; '.join(self.reasons)}", *(f"- {remedy}" for remedy in self.remedies)]
        return "\n".join(lines)


def diagnose(evidence: Evidence) -> Diagnosis:
    given = [v for v in (evidence.train, evidence.validation, evidence.test) if v is not None]
    if not all(map(math.isfinite, given)) or not evidence.trivial > 0:
        return Diagnosis("not diagnosed", ("its losses are no numbers to compare",))
    held_out = evidence.test if evidence.validation is None else evidence.validation
    parts = dict.fromkeys(("model bias", "optimisation", "over-fitting", "mismatch"), 0.0)
    signs = _signs(evidence)
    best = min(evidence.smaller, key=lambda name: evidence.smaller[name], default=None)
    lower = max(0.0, evidence.train - evidence.smaller[best]) if best is not None else 0.0
    parts["optimisation"] = evidence.train if signs else lower
    parts["model bias"] = evidence.train - parts["optimisation"]
    if held_out is not None:
        parts["over-fitting"] = held_out - evidence.train
    if evidence.test is not None and evidence.validation is not None:
        parts["mismatch"] = evidence.test - evidence.validation
    parts = {name: value / evidence.trivial for name, value in parts.items()}
    verdict = max(parts, key=lambda name: parts[name])
    if parts[verdict] <= TOLERANCE:
        verdict = "fine"
    reasons = [_losses(evidence)]
    if verdict == "optimisation":
        smaller = (
            f"{best}, no larger a model, gets {evidence.smaller[best]:.3g} on the same training data" if best else ""
        )
        reasons += [*signs, *([smaller] if smaller and lower / evidence.trivial > TOLERANCE else [])]
    if verdict == "model bias" and not evidence.smaller:
        reasons.append("no smaller model was trained on these data to compare with")
    if verdict == "over-fitting":
        reasons += _upturn(evidence)
        if evidence.validation is None:
            reasons.append("without a validation split a test of another kind would look the same")
    return Diagnosis(verdict, tuple(reasons), parts)


def _losses(evidence: Evidence) -> str:
    told = {"training": evidence.train, "validation": evidence.validation, "test": evidence.test}
    losses = ", ".join(f"{name} {value:.3g}" for name, value in told.items() if value is not None)
    return f"loss {losses}; a constant answer {evidence.trivial:.3g}"


def _signs(evidence: Evidence) -> list[str]:
    """Why a large training loss may be no matter of what the model can express."""
    curve, trivial, signs = evidence.training_curve, evidence.trivial, []
    if evidence.train >= STUCK * trivial:
        signs.append("it answers no better than a constant: it has not begun to learn")
    if len(curve) >= 1 / LAST:
        earlier = curve[-1 - max(1, round(LAST * len(curve)))]
        if earlier - curve[-1] > FALLING * trivial:
            signs.append(f"the training loss was still falling: {earlier:.3g} to {curve[-1]:.3g} in the last fifth")
    if curve and curve[-1] > min(curve) + RISE * trivial:
        signs.append(
            f"the training loss was {min(curve):.3g} before it rose to {curve[-1]:.3g}: the steps are too large"
        )
    norms = evidence.gradient_norms
    if norms and norms[-1] > EXPLODED * median(norms):
        signs.append(f"the gradient's norm ended at {norms[-1]:.3g}, {norms[-1] / median(norms):.0f} times its median")
    return signs


def _upturn(evidence: Evidence) -> list[str]:
    curve = evidence.validation_curve
    if not curve or curve[-1] <= min(curve) + RISE * min(curve):
        return []
    epoch = min(range(len(curve)), key=lambda index: curve[index]) + 1
    return [f"the validation loss was lowest, {min(curve):.3g}, after evaluation {epoch} of {len(curve)}: stop there"]


def comparable_loss(scores: Mapping[str, float], monitor: tuple[str, str]) -> float | None:
    """What of a run's scores can be split so: its loss, or how far a share (accuracy, mAP) is from 1; else None."""
    if "loss" in scores:
        return scores["loss"]
    score = scores.get(monitor[0], math.nan)
    return 1 - score if monitor[1] == "max" and 0 <= score <= 1 else None


def trivial_loss(split: Split) -> float | None:
    """Loss of the best constant answer to the split's labels; None where an example has no one label."""
    column = split.columns.get("label")
    if column is None or column.shape:
        return None
    return entropy(np.unique(split.array("label"), return_counts=True)[1].tolist())


def entropy(counts: Sequence[int]) -> float:
    """Nats: the cross-entropy of the best constant answer to labels that occur so often."""
    total = sum(counts)
    return -sum(count / total * math.log(count / total) for count in counts if count)
