"""How well numbers are predicted."""

from __future__ import annotations

import numpy as np


def regression_scores(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Both [N] -> mean squared error, mean absolute error, R^2: the share of the truth's variance that is explained.

    A truth without variance has R^2 = 1 if every prediction is right, else 0, as in scikit-learn.
    """
    error = predicted.astype(np.float64) - truth.astype(np.float64)
    mse, variance = float(np.square(error).mean()), float(truth.var(dtype=np.float64))
    r2 = 1 - mse / variance if variance > 0 else float(mse == 0)
    return {"mse": mse, "mae": float(np.abs(error).mean()), "r2": r2}
