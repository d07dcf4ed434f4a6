"""The fits at the end of R-CNN: a linear SVM and a box regression per class, and how they are applied to regions.

Both are tables of a state, float32: svm_weight [K, D], svm_bias [K], and box_weight [K, P + 1, 4], whose last row is
the constant.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# A region whose IoU is above this is a true box itself.
SAME_IOU = 0.99


def fit_svms(features: np.ndarray, overlaps: np.ndarray, cost: float, negative: float) -> dict[str, np.ndarray]:
    """Return the weights of one linear SVM per class, fitted on standardised features.

    features [R, D], overlaps [R, K]: of regions, and their IoU with the nearest object of each class. cost: C of the
    SVMs. True boxes are the positive examples; regions with an overlap below `negative` are the negative ones. A class
    without examples of both kinds has weight 0 and bias -1.
    """
    from sklearn.svm import LinearSVC

    mean = features.mean(0, dtype=np.float64)
    std = features.std(0, dtype=np.float64) + 1e-6
    scaled = (features - mean) / std
    weight = np.zeros((overlaps.shape[1], features.shape[1]))
    bias = -np.ones(overlaps.shape[1])
    for label, overlap in enumerate(overlaps.T):
        is_positive = overlap > SAME_IOU
        is_negative = overlap < negative
        rows = is_positive | is_negative
        if is_positive.any() and is_negative.any():
            svm = LinearSVC(C=cost, dual=False)
            svm.fit(scaled[rows], is_positive[rows])
            weight[label] = svm.coef_[0] / std
            bias[label] = svm.intercept_[0] - weight[label] @ mean
    return {"svm_weight": weight.astype(np.float32), "svm_bias": bias.astype(np.float32)}


def svm_margins(tables: dict[str, Tensor], features: Tensor) -> Tensor:
    """Return the margins [N, K] of features [N, D]."""
    weight, bias = (tables[name].to(features.device) for name in ("svm_weight", "svm_bias"))
    return features @ weight.T + bias


def fit_box_regression(
    maps: np.ndarray, offsets: np.ndarray, labels: np.ndarray, classes: int, ridge: float
) -> dict[str, np.ndarray]:
    """Return the weights of one ridge regression per class from maps to offsets; 0 for a class without examples.

    maps [S, P], offsets [S, 4], labels [S]: of regions near an object, and the offsets to its box. ridge: the penalty.
    """
    weight = np.zeros((classes, maps.shape[1] + 1, 4))
    for label in range(classes):
        rows = labels == label
        if not rows.any():
            continue
        x, y = maps[rows].astype(np.float64), offsets[rows].astype(np.float64)
        x_mean, y_mean = x.mean(0), y.mean(0)
        gram = (x - x_mean).T @ (x - x_mean) + ridge * np.eye(x.shape[1])
        weight[label, :-1] = np.linalg.solve(gram, (x - x_mean).T @ (y - y_mean))
        weight[label, -1] = y_mean - x_mean @ weight[label, :-1]
    return {"box_weight": weight.astype(np.float32)}


def box_offsets(tables: dict[str, Tensor], maps: Tensor) -> Tensor:
    """Return the offsets [N, K, 4] of the box of each class for maps [N, P]."""
    weight = tables["box_weight"].to(maps.device)
    return torch.einsum("np,kpo->nko", maps, weight[:, :-1]) + weight[:, -1]
