"""Score translations by BLEU and by exact match."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence

# How sacrebleu describes the same score of the same tokens.
SIGNATURE = "nrefs:1|case:mixed|eff:no|tok:none|smooth:none"
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


def sentence_bleu(output: Sentence, reference: Sentence) -> float:
    """Return the BLEU of one sentence, 0 to 1, with 1 added to matches and totals of 2 to 4 tokens (Lin & Och 2004).

    Without that, a sentence without four right tokens in a row would score 0, and a reward would say nothing.
    """
    log_precision = 0.0
    for n in range(ORDERS):
        counts = count_ngrams(output, n + 1)
        matches = (counts & count_ngrams(reference, n + 1)).total()
        if n == 0 and matches == 0:
            return 0.0
        smooth = 1 if n else 0
        log_precision += math.log((matches + smooth) / (counts.total() + smooth)) / ORDERS
    return math.exp(min(0.0, 1 - len(reference) / len(output)) + log_precision)


def exact_match(outputs: Sequence[Sentence], references: Sequence[Sentence]) -> float:
    """Return the share of outputs that equal their references."""
    matches = sum(list(output) == list(reference) for output, reference in zip(outputs, references, strict=True))
    return matches / max(1, len(outputs))


def count_ngrams(tokens: Sentence, n: int) -> Counter[tuple[Hashable, ...]]:
    """Count the n-grams of a sentence."""
    return Counter(tuple(tokens[at : at + n]) for at in range(len(tokens) - n + 1))
