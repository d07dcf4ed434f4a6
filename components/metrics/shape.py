"""Measure what a picture of a bright figure on a dark ground looks like: how much ink, how wide, how slanted."""

from __future__ import annotations

import numpy as np


def measure_shapes(pictures: np.ndarray) -> dict[str, np.ndarray]:
    """Return {ink, width, height, slant: float64 [N]} of pictures uint8 [N, H, W, 1].

    ink: mean brightness, 0 to 1. width, height: standard deviations of the ink's position, in pixels. slant: pixels to
    the right per pixel upward along the figure, by the second moments; 0 for an empty picture.
    """
    weight = pictures[..., 0].astype(np.float64) / 255
    total = np.maximum(weight.sum((1, 2)), 1e-9)
    rows, columns = np.arange(weight.shape[1]), np.arange(weight.shape[2])
    middle_row = (weight.sum(2) * rows).sum(1) / total
    middle_column = (weight.sum(1) * columns).sum(1) / total
    down = rows - middle_row[:, None]
    right = columns - middle_column[:, None]
    row_variance = (weight.sum(2) * down**2).sum(1) / total
    column_variance = (weight.sum(1) * right**2).sum(1) / total
    covariance = np.einsum("nij,ni,nj->n", weight, down, right) / total
    return {
        "ink": weight.mean((1, 2)),
        "width": np.sqrt(column_variance),
        "height": np.sqrt(row_variance),
        "slant": -covariance / np.maximum(row_variance, 1e-9),
    }


def fit_direction(latent: np.ndarray, attribute: np.ndarray, ridge: float = 1.0) -> tuple[np.ndarray, float]:
    """Return the unit direction [F] along which an attribute [N] rises, and how much of it a line explains (R²).

    A ridge regression on the latent vectors [N, F] of the even rows; R² is that of the odd rows, and 0 where they all
    have the same value.
    """
    train, test = slice(0, None, 2), slice(1, None, 2)
    x, mean = latent[train].astype(np.float64), attribute[train].mean()
    slope = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ (attribute[train] - mean))
    error = attribute[test] - mean - latent[test] @ slope
    total = ((attribute[test] - attribute[test].mean()) ** 2).sum()
    explained = 1 - (error**2).sum() / total if total > 1e-12 else 0.0
    return slope / max(np.linalg.norm(slope), 1e-12), float(explained)
