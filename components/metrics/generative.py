"""Score the quality and diversity of generated examples by the features and predictions of a classifier."""

from __future__ import annotations

import numpy as np

from ..errors import Refusal


def frechet_distance(real: np.ndarray, generated: np.ndarray) -> float:
    """Return the Fréchet distance of two sets of features [N, F], modelled as Gaussians (FID, Heusel et al. 2017).

    |m1 - m2|² + tr(S1 + S2 - 2 (S1 S2)^½), where (S1 S2)^½ has the trace of the symmetric matrix (S1^½ S2 S1^½)^½.
    """
    mean1, cov1 = _moments(real)
    mean2, cov2 = _moments(generated)
    values, vectors = np.linalg.eigh(cov1)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov2 @ root).clip(0)).sum()
    distance = ((mean1 - mean2) ** 2).sum() + np.trace(cov1) + np.trace(cov2) - 2 * cross
    return float(max(distance, 0.0))


def _moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean [F] and covariance [F, F] of features [N, ...], F being the product of the other sides."""
    features = features.reshape(len(features), -1).astype(np.float64)
    return features.mean(0), np.atleast_2d(np.cov(features, rowvar=False))


def inception_score(probability: np.ndarray) -> float:
    """Return the inception score, 1 ... K, of probability [N, K] (Salimans et al. 2016).

    It is the exponential of the mean Kullback-Leibler divergence of p(class | example) from p(class).
    """
    p = np.clip(probability.astype(np.float64), 1e-12, None)
    p /= p.sum(1, keepdims=True)
    return float(np.exp((p * (np.log(p) - np.log(p.mean(0)))).sum(1).mean()))


def class_coverage(labels: np.ndarray, classes: int, share: float = 0.1) -> float:
    """Return the share of classes that labels [N] cover.

    A class is covered if it occurs at least `share` times as often as it would if all were equally likely.
    """
    counts = np.bincount(labels, minlength=classes)
    return float((counts >= max(1.0, share * len(labels) / classes)).mean())


def nearest_class(
    examples: np.ndarray, real: np.ndarray, labels: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return (class with the nearest mean [N], distance from it in standard deviations of that class [N]).

    examples [N, ...]: what is to be classified. real [M, ...], labels [M]: examples from which means and standard
    deviations are taken, at least two per class.
    """
    flat = examples.reshape(len(examples), -1)
    truth = real.reshape(len(real), -1)
    counts = np.bincount(labels, minlength=classes)
    if (counts < 2).any():
        label = (counts < 2).argmax()
        raise Refusal(
            f"coverage: class {label} has {counts[label]} real examples, but its standard deviation needs 2;"
            " use a larger split"
        )
    means = np.stack([truth[labels == label].mean(0) for label in range(classes)])
    spread = np.array([truth[labels == label].std(0).mean() for label in range(classes)])
    distances = np.linalg.norm(flat[:, None] - means, axis=2)
    closest = distances.argmin(1)
    return closest, distances[np.arange(len(flat)), closest] / spread[closest]
