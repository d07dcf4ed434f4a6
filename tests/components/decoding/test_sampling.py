"""Distributions for sampling agree with those of the library transformers, and with the definitions on small cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from components.decoding.sampling import sampling_distribution

LOGITS = np.log([0.1, 0.4, 0.2, 0.3])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("top_k", [0, 1, 5, 30])
@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.3])
def test_it_agrees_with_transformers(temperature: float, top_k: int, top_p: float) -> None:
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    logits = np.random.default_rng(0).normal(scale=2.0, size=30)
    scores = TemperatureLogitsWarper(temperature)(None, torch.tensor(logits)[None])
    if top_k:
        scores = TopKLogitsWarper(top_k)(None, scores)
    if top_p < 1:
        scores = TopPLogitsWarper(top_p)(None, scores)
    expected = scores[0].softmax(0).numpy()
    assert np.allclose(sampling_distribution(logits, temperature, top_k, top_p), expected, atol=1e-12)


def test_the_full_distribution_is_the_softmax() -> None:
    assert sampling_distribution(LOGITS) == pytest.approx([0.1, 0.4, 0.2, 0.3])


def test_top_k_keeps_the_k_most_probable_tokens() -> None:
    assert sampling_distribution(LOGITS, top_k=2) == pytest.approx([0, 4 / 7, 0, 3 / 7])


def test_the_nucleus_is_the_smallest_set_with_enough_probability() -> None:
    assert sampling_distribution(LOGITS, top_p=0.39) == pytest.approx([0, 1, 0, 0])
    assert sampling_distribution(LOGITS, top_p=0.6) == pytest.approx([0, 4 / 7, 0, 3 / 7])
    assert sampling_distribution(LOGITS, top_p=0.71) == pytest.approx([0, 4 / 9, 2 / 9, 3 / 9])


def test_temperature_zero_is_greedy() -> None:
    assert sampling_distribution(LOGITS, temperature=0).tolist() == [0, 1, 0, 0]
    assert sampling_distribution(np.array([0.5, 1.0, 1.0]), temperature=0).tolist() == [0, 1, 0]


def test_a_low_temperature_does_not_overflow() -> None:
    assert sampling_distribution(np.array([1000.0, 0.0, -1000.0]), temperature=1e-6).tolist() == [1, 0, 0]
