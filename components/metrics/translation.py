"""Score translations by BLEU and by exact match."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence

ORDERS = 4  # n-grams of 1 to 4 tokens
Sentence = Sequence[Hashable]  # tokens


def bleu(outputs: Sequence[Sentence], references: Sequence[Sentence]) -> float:
    """Return the BLEU of a corpus with one reference per output, 0 to 1, without smoothing (Papineni et al. 2002).

    It is the geometric mean of the n-gram precisions, where an n-gram counts at most as often as its reference has it.
    If the outputs have fewer tokens c than the references r, it is multiplied by the brevity penalty exp(1 - r / c).
    """
    matches, totals = [0] * ORDERS, [0] * ORDERS
    for output, reference in zip(outputs, references, strict=True):
        for n in range(ORDERS):
            counts = count_ngrams(output, n + 1)
            matches[n] += (counts & count_ngrams(reference, n + 1)).total()
            totals[n] += counts.total()
    if min(matches) == 0:
        return 0.0
    output_length, reference_length = sum(map(len, outputs)), sum(map(len, references))
    log_precision = sum(math.log(match / total) for match, total in zip(matches, totals, strict=True)) / ORDERS
    return math.exp(min(0.0, 1 - reference_length / output_length) + log_precision)


def exact_match(outputs: Sequence[Sentence], references: Sequence[Sentence]) -> float:
    """Return the share of outputs that equal their references."""
    matches = sum(list(output) == list(reference) for output, reference in zip(outputs, references, strict=True))
    return matches / max(1, len(outputs))


def count_ngrams(tokens: Sentence, n: int) -> Counter[tuple[Hashable, ...]]:
    """Count the n-grams of a sentence."""
    return Counter(tuple(tokens[at : at + n]) for at in range(len(tokens) - n + 1))
