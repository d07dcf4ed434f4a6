"""Score the quality and diversity of generated examples by the features and predictions of a classifier."""

from __future__ import annotations

import numpy as np

from ..errors import Refusal

# Shares of the real spread; a smaller one is a collapse
NARROW = 0.6
NARROW_CLASSES = 0.4  # within the classes; one font of several, drawn with all its variants, has about half


def frechet_distance(real: np.ndarray, generated: np.ndarray) -> float:
    """Return the Fréchet distance of two sets of features [N, F], modelled as Gaussians (FID, Heusel et al. 2017).

    |m1 - m2|² + tr(S1 + S2 - 2 (S1 S2)^½), where (S1 S2)^½ has the trace of the symmetric matrix (S1^½ S2 S1^½)^½.
    """
    if max(len(real), len(generated)) < real[0].size:
        return _distance_of_few(real, generated)
    mean1, cov1 = _moments(real)
    mean2, cov2 = _moments(generated)
    values, vectors = np.linalg.eigh(cov1)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov2 @ root).clip(0)).sum()
    distance = ((mean1 - mean2) ** 2).sum() + np.trace(cov1) + np.trace(cov2) - 2 * cross
    return float(max(distance, 0.0))


def _distance_of_few(real: np.ndarray, generated: np.ndarray) -> float:
    """Return the Fréchet distance of fewer examples [N, ...] than features, without a covariance matrix.

    With S = X^T X of centred and scaled examples X [N, F], the trace of (S1 S2)^½ is the sum of the singular values of
    X1 X2^T: milliseconds instead of seconds for Inception's 2,048 features.
    """
    flat = [part.reshape(len(part), -1).astype(np.float64) for part in (real, generated)]
    first, second = ((part - part.mean(0)) / np.sqrt(max(len(part) - 1, 1)) for part in flat)
    cross = np.linalg.svd(first @ second.T, compute_uv=False).sum()
    gap = flat[0].mean(0) - flat[1].mean(0)
    return float(max((gap**2).sum() + (first**2).sum() + (second**2).sum() - 2 * cross, 0.0))


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


def spread(real: np.ndarray, generated: np.ndarray) -> float:
    """Return how far generated features [N, ...] lie from their mean, as a multiple of the real ones' [M, ...].

    The distances are root mean squares: about 1 for a good generator, near 0 if all its examples are alike.
    """
    deviations = [np.sqrt(part.reshape(len(part), -1).astype(np.float64).var(0).sum()) for part in (generated, real)]
    return float(deviations[0] / max(deviations[1], 1e-12))


def variety(real: np.ndarray, real_labels: np.ndarray, generated: np.ndarray, labels: np.ndarray) -> float:
    """Return the spread within the classes: the mean of `spread` over classes with two real and generated examples.

    real, generated: features [M, ...], [N, ...]; labels: their classes. Near 0 if a generator draws each class in one
    way, which neither coverage nor spread over all classes reveals; 0 if it draws no class twice.
    """
    ratios = [
        spread(real[real_labels == label], generated[labels == label])
        for label in np.unique(real_labels)
        if (real_labels == label).sum() > 1 and (labels == label).sum() > 1
    ]
    return float(np.mean(ratios)) if ratios else 0.0


def describe_modes(coverage: float, spread: float, alarm: float, variety: float | None = None) -> str:
    """Return a verdict on what a generator leaves out (notes: mode collapse and mode dropping).

    Collapse: the examples lie in a small range, all of them or (variety) those of a class. Dropping: they range as
    widely as the real ones, but some classes are missing. alarm: the coverage below which it is one.
    """
    facts = f"{coverage:.0%} of the classes are produced, {spread:.2f} of the real spread"
    facts += "" if variety is None else f", {variety:.2f} of it within the classes"
    if spread < NARROW:
        return f"ALARM, collapse: {facts}"
    if coverage < alarm:
        return f"ALARM, dropping: {facts}"
    if variety is not None and variety < NARROW_CLASSES:
        return f"ALARM, collapse within the classes: {facts}"
    return f"none: {facts}"


def frechet_by_size(
    real: np.ndarray, generated: np.ndarray, sizes: list[int], repeats: int = 5, seed: int = 0
) -> np.ndarray:
    """Return the Fréchet distance of random samples of each size from both sets of features: [sizes, repeats].

    Small samples overestimate it (notes: 'needs many samples'; Chong & Forsyth 2020).
    """
    random = np.random.default_rng(seed)
    return np.array(
        [
            [
                frechet_distance(*(part[random.choice(len(part), size, replace=False)] for part in (real, generated)))
                for _ in range(repeats)
            ]
            for size in sizes
        ]
    )


def sharpness(pictures: np.ndarray) -> float:
    """Return the mean absolute difference of neighbouring pixels, in both directions, of uint8 [N, H, W, C]; 0 to 1."""
    values = pictures.astype(np.float32) / 255
    return float(np.mean([np.abs(np.diff(values, axis=axis)).mean() for axis in (1, 2)]))


def patches(pictures: np.ndarray, side: int = 8) -> np.ndarray:
    """Return all patches of `side` pixels that cover uint8 [N, H, W, C] without overlap: float32 [M, side * side * C].

    Values are in 0..1. Pixels that fill no patch at the right and at the bottom are left out.
    """
    count, height, width, channels = pictures.shape
    rows, columns = height // side, width // side
    cut = pictures[:, : rows * side, : columns * side].reshape(count, rows, side, columns, side, channels)
    return cut.swapaxes(2, 3).reshape(-1, side * side * channels).astype(np.float32) / 255


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
