"""BLEU matches sacrebleu and a worked example."""

from __future__ import annotations

import math
import random

import pytest
from sacrebleu.metrics import BLEU

from components.metrics.translation import SIGNATURE, bleu, exact_match, sentence_bleu


def corpus(seed: int, extra: tuple[int, int]) -> tuple[list[list[str]], list[list[str]]]:
    """Draw references of up to 12 words and outputs with some words exchanged, longer by `extra` (range) words."""
    draw = random.Random(seed)
    references = [draw.choices("abcdef", k=draw.randint(1, 12)) for _ in range(40)]
    outputs = [[word if draw.random() < 0.8 else draw.choice("abcdef") for word in row] for row in references]
    return [(row * 3)[: max(0, len(row) + draw.randint(*extra))] for row in outputs], references


@pytest.mark.parametrize("extra", [(-2, 0), (0, 0), (0, 3)])
@pytest.mark.parametrize("seed", range(4))
def test_bleu_matches_sacrebleu(seed: int, extra: tuple[int, int]) -> None:
    outputs, references = corpus(seed, extra)
    oracle = BLEU(tokenize="none", smooth_method="none", force=True)
    expected = oracle.corpus_score([" ".join(row) for row in outputs], [[" ".join(row) for row in references]])
    assert bleu(outputs, references) == pytest.approx(expected.score / 100, rel=1e-9)
    assert str(oracle.get_signature()).rpartition("|version:")[0] == SIGNATURE
    assert (expected.bp < 1) == (extra == (-2, 0))


def test_counts_are_clipped_and_short_outputs_are_penalised() -> None:
    """Seven `the` count twice in the example of the paper. Two words fewer than eight cost exp(1 - 8 / 6)."""
    words = ["the", "cat", "is", "on", "the", "mat"]
    assert bleu([["the"] * 7], [words]) == 0.0  # no bigram is right
    assert bleu([["a", "b", "c", "d", "e", "f"]], [["a", "b", "c", "d", "e", "f", "g", "h"]]) == pytest.approx(
        math.exp(1 - 8 / 6)
    )
    assert bleu([words], [words]) == 1.0
    repeated = ["the", "the", "cat", "is", "on", "the", "mat", "the"]  # right: 6 of 8, 5 of 7, 4 of 6, 3 of 5
    assert bleu([repeated], [words]) == pytest.approx((6 / 8 * 5 / 7 * 4 / 6 * 3 / 5) ** 0.25)
    assert bleu([[]], [words]) == 0.0


def test_exact_match_is_the_share_of_equal_sentences() -> None:
    assert exact_match([["a", "b"], ["a"], []], [["a", "b"], ["a", "b"], ["c"]]) == pytest.approx(1 / 3)


@pytest.mark.parametrize("seed", range(3))
def test_sentence_bleu_matches_sacrebleu_with_one_added(seed: int) -> None:
    oracle = BLEU(tokenize="none", smooth_method="add-k", smooth_value=1, force=True, effective_order=False)
    for output, reference in zip(*corpus(seed, (-1, 1)), strict=True):
        if len(output) >= 4 and set(output) & set(reference):
            expected = oracle.sentence_score(" ".join(output), [" ".join(reference)]).score / 100
            assert sentence_bleu(output, reference) == pytest.approx(expected, rel=1e-9)
    assert sentence_bleu([], ["a"]) == sentence_bleu(["b"], ["a"]) == 0.0
    assert sentence_bleu(["a", "b"], ["a", "b"]) == 1.0
