"""How good translations are: BLEU, and how many are right to the last token."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence

ORDERS = 4
Sentence = Sequence[Hashable]  # tokens


def bleu(said: Sequence[Sentence], truth: Sequence[Sentence]) -> float:
    """Of a whole corpus with one reference each, from 0 to 1, without smoothing (Papineni et al. 2002).

    The geometric mean of the precisions of n-grams (1 to 4), each counted at most as often as the reference has it,
    times the brevity penalty exp(1 - r / c) where the c tokens said are fewer than the reference's r.
    """
    right, all_said = [0] * ORDERS, [0] * ORDERS
    for ours, theirs in zip(said, truth, strict=True):
        for n in range(ORDERS):
            counts = count_ngrams(ours, n + 1)
            right[n] += (counts & count_ngrams(theirs, n + 1)).total()
            all_said[n] += counts.total()
    if min(right) == 0:
        return 0.0
    length, wanted = (sum(map(len, side)) for side in (said, truth))
    precision = sum(math.log(a / b) for a, b in zip(right, all_said, strict=True)) / ORDERS
    return math.exp(min(0.0, 1 - wanted / length) + precision)


def exact_match(said: Sequence[Sentence], truth: Sequence[Sentence]) -> float:
    """The share of sentences said as the reference says them."""
    return sum(list(ours) == list(theirs) for ours, theirs in zip(said, truth, strict=True)) / max(1, len(said))


def count_ngrams(tokens: Sentence, n: int) -> Counter[tuple[Hashable, ...]]:
    return Counter(tuple(tokens[at : at + n]) for at in range(len(tokens) - n + 1))
