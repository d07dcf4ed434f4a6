"""How well a text is predicted."""

from __future__ import annotations

import math

import numpy as np


def language_scores(nll: np.ndarray) -> dict[str, float]:
    """Negative log-likelihood of each token (nats, any shape) -> perplexity, loss (nats a token), bits (a token).

    Perplexity is the exponential of the mean: the harmonic mean of how many tokens there were to choose from (notes).
    """
    loss = float(nll.mean(dtype=np.float64))
    return {"perplexity": math.exp(min(loss, 700.0)), "loss": loss, "bits": loss / math.log(2)}
