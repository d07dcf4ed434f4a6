"""Caveats: rare classes per split, what a perfect score proves, and the score of a constant answer."""

from __future__ import annotations

from typing import Any

import pytest
from scipy.stats import binomtest

from components.verdicts.caveats import constant_answer, describe_perfect_score, describe_rare_classes


def manifest(**splits: dict[str, int]) -> dict[str, Any]:
    return {"splits": {name: {"rows": sum(counts.values()), "class_counts": counts} for name, counts in splits.items()}}


def test_missing_and_rare_classes_are_named_per_split() -> None:
    assert describe_rare_classes(manifest(train={"cat": 3, "fox": 9}, test={"cat": 10, "fox": 10})) == []
    sentences = describe_rare_classes(
        manifest(train={"cat": 50, "fox": 1, "owl": 0}, test={"cat": 10, "fox": 9, "owl": 0})
    )
    assert sentences == [
        "train has no example of 'owl': no model can learn them",
        "test has no example of 'owl': no score covers them",
        "test has fewer than 10 examples of 'fox' 9: their scores are mostly chance",
    ]
    many = manifest(train={}, test={str(number): 0 for number in range(7)})
    assert describe_rare_classes(many) == [
        "test has no example of '0', '1', '2', '3', '4' and 2 more classes: no score covers them"
    ]
    assert describe_rare_classes({"splits": {"train": {"rows": 3}}}) == []


@pytest.mark.parametrize("examples", [1, 2, 100])
def test_a_perfect_score_proves_as_much_as_its_examples(examples: int) -> None:
    least = binomtest(examples, examples, alternative="greater").proportion_ci(0.95, "exact").low
    assert f"1.0 on {examples:,} example" in str(describe_perfect_score(1.0, examples))
    assert f"at least {least:.3f}" in str(describe_perfect_score(1.0, examples))
    assert describe_perfect_score(0.999, examples) is None
    assert describe_perfect_score(1.0, 0) is None


def test_the_constant_answer_is_the_most_frequent_training_class() -> None:
    facts = manifest(train={"cat": 3, "fox": 9}, test={"cat": 30, "fox": 10})
    assert constant_answer(facts, "test") == ("fox", 0.25)
    assert constant_answer(facts, "validation") is None
    assert constant_answer({"splits": {"train": {"rows": 3}, "test": {"rows": 3}}}, "test") is None
