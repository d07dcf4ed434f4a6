"""BLEU is sacrebleu's, and that of a worked example."""

from __future__ import annotations

import math
import random

import pytest
from sacrebleu.metrics import BLEU

from components.metrics.translation import bleu, exact_match


def corpus(seed: int, said: tuple[int, int]) -> tuple[list[list[str]], list[list[str]]]:
    """References of up to 12 words, and what is said of them: some words lost or exchanged, `said` words long."""
    draw = random.Random(seed)
    truth = [draw.choices("abcdef", k=draw.randint(1, 12)) for _ in range(40)]
    ours = [[word if draw.random() < 0.8 else draw.choice("abcdef") for word in row] for row in truth]
    return [(row * 3)[: max(0, len(row) + draw.randint(*said))] for row in ours], truth


@pytest.mark.parametrize("said", [(-2, 0), (0, 0), (0, 3)])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_sacrebleus(seed: int, said: tuple[int, int]) -> None:
    ours, truth = corpus(seed, said)
    theirs = BLEU(tokenize="none", smooth_method="none", force=True)
    wanted = theirs.corpus_score([" ".join(row) for row in ours], [[" ".join(row) for row in truth]])
    assert bleu(ours, truth) == pytest.approx(wanted.score / 100, rel=1e-9)
    assert (wanted.bp < 1) == (said == (-2, 0))


def test_counts_are_clipped_and_shortness_costs() -> None:
    """The paper's example: `the` seven times counts twice. Two words less than eight: exp(1 - 8 / 6)."""
    words = ["the", "cat", "is", "on", "the", "mat"]
    assert bleu([["the"] * 7], [words]) == 0.0  # no bigram is right
    assert bleu([["a", "b", "c", "d", "e", "f"]], [["a", "b", "c", "d", "e", "f", "g", "h"]]) == pytest.approx(
        math.exp(1 - 8 / 6)
    )
    assert bleu([words], [words]) == 1.0
    said = ["the", "the", "cat", "is", "on", "the", "mat", "the"]  # right: 6 of 8, 5 of 7, 4 of 6, 3 of 5
    assert bleu([said], [words]) == pytest.approx((6 / 8 * 5 / 7 * 4 / 6 * 3 / 5) ** 0.25)
    assert bleu([[]], [words]) == 0.0


def test_exact_match_is_the_share_of_whole_sentences() -> None:
    assert exact_match([["a", "b"], ["a"], []], [["a", "b"], ["a", "b"], ["c"]]) == pytest.approx(1 / 3)
