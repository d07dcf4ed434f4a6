"""Compare generated with real sequences: whether pairs of neighbours are plausible, and whether they are diverse."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np


def sequence_scores(generated: np.ndarray, real: np.ndarray, ignored: Collection[int] = ()) -> dict[str, float]:
    """Return {bigram_precision, bigram_recall, bigram_f1, distinct} of token numbers int [N, T] and [M, T].

    bigram_precision: share of the generated pairs of neighbours that occur in a real sequence. bigram_recall: share of
    the real pairs that are generated anywhere. bigram_f1: their harmonic mean. distinct: different sequences as a share
    of all generated. Pairs with an `ignored` number, such as padding, do not count.
    """
    generated_pairs, real_pairs = (_neighbours(rows, ignored) for rows in (generated, real))
    precision = float(np.isin(generated_pairs, real_pairs).mean()) if len(generated_pairs) else 0.0
    recall = float(np.isin(real_pairs, generated_pairs).mean()) if len(real_pairs) else 0.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    distinct = len(np.unique(generated, axis=0)) / len(generated)
    return {"bigram_precision": precision, "bigram_recall": recall, "bigram_f1": f1, "distinct": distinct}


def _neighbours(rows: np.ndarray, ignored: Collection[int]) -> np.ndarray:
    """Return a number for each pair of neighbours in rows [N, T]: int64 [P]."""
    first, second = rows[:, :-1].astype(np.int64).ravel(), rows[:, 1:].astype(np.int64).ravel()
    counts = ~np.isin(first, list(ignored)) & ~np.isin(second, list(ignored))
    return first[counts] * 2**31 + second[counts]
