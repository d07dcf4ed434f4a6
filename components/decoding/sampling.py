"""Turn logits into the distribution that the next token is drawn from (notes: sampling of a text)."""

from __future__ import annotations

import numpy as np


def sampling_distribution(
    logits: np.ndarray, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
) -> np.ndarray:
    """Return the probabilities, float64 [K], from which a token is drawn, for logits [K].

    temperature: divides the logits; below 1 favours probable tokens, 0 takes the most probable one (greedy).
    top_k: only the k most probable tokens are possible (Fan et al. 2018); 0 means all.
    top_p: only the fewest most probable tokens whose probabilities sum up to at least this much are possible (nucleus
    sampling, Holtzman et al. 2020). It applies after the temperature and after top_k. Ties go to the lower number.
    """
    scaled = logits.astype(np.float64)
    order = np.argsort(-scaled, kind="stable")
    if temperature == 0:
        p = np.zeros(len(scaled))
        p[order[0]] = 1.0
        return p
    scaled = (scaled - scaled[order[0]]) / temperature
    if top_k:
        scaled[order[top_k:]] = -np.inf
    p = np.exp(scaled)
    p /= p.sum()
    if top_p < 1:
        before = np.cumsum(p[order]) - p[order]
        p[order[before >= top_p]] = 0.0
        p /= p.sum()
    return p
