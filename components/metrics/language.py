"""Score the prediction of text."""

from __future__ import annotations

import math

import numpy as np


def language_scores(nll: np.ndarray) -> dict[str, float]:
    """Return perplexity, loss (nats per token) and bits (per token) of the negative log-likelihood of each token.

    nll: in nats, of any shape. Perplexity is the exponential of its mean: the harmonic mean of the number of tokens to
    choose from (notes).
    """
    loss = float(nll.mean(dtype=np.float64))
    return {"perplexity": math.exp(min(loss, 700.0)), "loss": loss, "bits": loss / math.log(2)}
