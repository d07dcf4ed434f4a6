"""Caveats of a score: rare classes, examples that splits share, and perfect scores on few examples."""

from __future__ import annotations

from typing import Any

from ..errors import pluralize

FEW = 10  # held-out examples of a class below which its score is mostly chance
CONFIDENCE = 0.95
MOST_CLASSES = 5  # named per sentence


def describe_data(manifest: dict[str, Any]) -> list[str]:
    """Return sentences about duplicates, conflicting labels and rare classes of prepared data."""
    return [*manifest.get("review", []), *describe_rare_classes(manifest)]


def describe_rare_classes(manifest: dict[str, Any]) -> list[str]:
    """Return a sentence for each split that has no or few examples of a class; none without labels.

    manifest: of prepared data.
    """
    sentences = []
    for split, entry in manifest["splits"].items():
        counts = entry.get("class_counts", {})
        missing = [f"'{name}'" for name, count in counts.items() if count == 0]
        few = [f"'{name}' {count}" for name, count in counts.items() if 0 < count < FEW]
        if missing:
            effect = "no model can learn them" if split == "train" else "no score covers them"
            sentences.append(f"{split} has no example of {_enumerate(missing)}: {effect}")
        if few and split != "train":
            sentences.append(
                f"{split} has fewer than {FEW} examples of {_enumerate(few)}: their scores are mostly chance"
            )
    return sentences


def describe_perfect_score(score: float, examples: int) -> str | None:
    """Return what a score of 1 on so many examples proves, or None for a lower score.

    The lower limit of the true score is exact (Clopper and Pearson 1934).
    """
    if score < 1 or examples < 1:
        return None
    least = (1 - CONFIDENCE) ** (1 / examples)
    judged = pluralize(examples, "example")
    return f"1.0 on {judged} shows only that the true score is at least {least:.3f} (at {CONFIDENCE:.0%})"


def constant_answer(manifest: dict[str, Any], split: str) -> tuple[str, float] | None:
    """Return the most frequent training class and its accuracy on a split as a constant answer; None without labels."""
    train = manifest["splits"].get("train", {}).get("class_counts")
    held_out = manifest["splits"].get(split, {}).get("class_counts")
    if not train or not held_out:
        return None
    name = max(train, key=lambda name: train[name])
    return name, held_out[name] / max(1, sum(held_out.values()))


def describe_worthless(scores: dict[str, float], constant: float | None) -> str | None:
    """Return that a model is no better than a constant answer, or None where it is better or nothing shows it.

    constant: accuracy of the constant answer, if there is one. r2 and skill are 0 for such an answer.
    """
    limits = {"accuracy": constant, "r2": 0.0, "skill": 0.0}
    for name, limit in limits.items():
        if limit is not None and name in scores:
            if scores[name] > limit:
                return None
            return f"{name} {scores[name]:.4f} is not above {limit:.4f}, that of a constant answer: nothing is learned"
    return None


def _enumerate(names: list[str]) -> str:
    """Return the names as text, only the first MOST_CLASSES and the number of the others."""
    more = len(names) - MOST_CLASSES
    return ", ".join(names[:MOST_CLASSES]) + (f" and {more} more classes" if more > 0 else "")
