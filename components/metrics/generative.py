"""How good, and how various, generated examples are, by the features and verdicts of a classifier."""

from __future__ import annotations

import numpy as np

from ..errors import Refusal


def frechet_distance(real: np.ndarray, made: np.ndarray) -> float:
    """Fréchet distance of two sets of features [N, F] taken as Gaussians (FID, Heusel et al. 2017).

    |m1 - m2|² + tr(S1 + S2 - 2 (S1 S2)^½); the last trace is that of the symmetric (S1^½ S2 S1^½)^½.
    """
    (mean1, cov1), (mean2, cov2) = (_moments(features) for features in (real, made))
    values, vectors = np.linalg.eigh(cov1)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov2 @ root).clip(0)).sum()
    distance = ((mean1 - mean2) ** 2).sum() + np.trace(cov1) + np.trace(cov2) - 2 * cross
    return float(max(distance, 0.0))


def _moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    features = features.reshape(len(features), -1).astype(np.float64)
    return features.mean(0), np.atleast_2d(np.cov(features, rowvar=False))


def inception_score(probability: np.ndarray) -> float:
    """exp of the mean divergence of p(class | example) from p(class): [N, K] -> 1 ... K (Salimans et al. 2016)."""
    given = np.clip(probability.astype(np.float64), 1e-12, None)
    given /= given.sum(1, keepdims=True)
    return float(np.exp((given * (np.log(given) - np.log(given.mean(0)))).sum(1).mean()))


def class_coverage(labels: np.ndarray, classes: int, share: float = 0.1) -> float:
    """Share of the classes that are produced: each at least `share` times as often as if all were equally likely."""
    counts = np.bincount(labels, minlength=classes)
    return float((counts >= max(1.0, share * len(labels) / classes)).mean())


def nearest_class(
    examples: np.ndarray, real: np.ndarray, labels: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """(class whose real mean is nearest [N], distance from it in the class's standard deviations [N])."""
    flat, truth = examples.reshape(len(examples), -1), real.reshape(len(real), -1)
    counts = np.bincount(labels, minlength=classes)
    if (few := counts < 2).any():
        label = few.argmax()
        raise Refusal(
            f"coverage: class {label} has {counts[label]} real examples, and its spread needs two; give the split more"
        )
    means = np.stack([truth[labels == label].mean(0) for label in range(classes)])
    spread = np.array([truth[labels == label].std(0).mean() for label in range(classes)])
    distances = np.linalg.norm(flat[:, None] - means, axis=2)
    found = distances.argmin(1)
    return found, distances[np.arange(len(flat)), found] / spread[found]
