"""Score the prediction of numbers."""

from __future__ import annotations

import numpy as np


def regression_scores(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return mean squared error, mean absolute error and R^2 (explained share of the variance) of predicted [N].

    For a truth [N] without variance, R^2 is 1 if every prediction is correct, otherwise 0, as in scikit-learn.
    """
    error = predicted.astype(np.float64) - truth.astype(np.float64)
    mse = float(np.square(error).mean())
    variance = float(truth.var(dtype=np.float64))
    r2 = 1 - mse / variance if variance > 0 else float(mse == 0)
    return {"mse": mse, "mae": float(np.abs(error).mean()), "r2": r2}
