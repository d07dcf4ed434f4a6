"""Kernel regression follows its formula, written with sums."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from components.errors import Refusal
from components.models.nadaraya_watson import NadarayaWatson

random = np.random.default_rng(0)
QUERIES, KEYS, VALUES = random.normal(size=(5, 2)), random.normal(size=(7, 2)), random.normal(size=7)
HIDDEN = random.random((5, 7)) < 0.4


def formula(query: np.ndarray, visible: list[int], width: float) -> float:
    """Return sum_i K((q - k_i) / width) v_i / sum_i K((q - k_i) / width), K being Gaussian; width 0: the mean of v."""
    kernel = [
        math.exp(-sum((q - k) ** 2 for q, k in zip(query, KEYS[i], strict=True)) / (2 * width**2)) if width else 1.0
        for i in visible
    ]
    return sum(weight * VALUES[i] for weight, i in zip(kernel, visible, strict=True)) / sum(kernel)


@pytest.mark.parametrize("learn", [False, True])
@pytest.mark.parametrize("width", [0.0, 0.4, 1.0, 3.0])
@pytest.mark.parametrize("hidden", [False, True])
def test_it_follows_the_formula(learn: bool, width: float, hidden: bool) -> None:
    options: dict[str, Any] = {"width": width} if width else {"pooling": "average"}
    net = NadarayaWatson(**options, learn=learn and width > 0)
    inputs = [torch.tensor(array, dtype=torch.float32) for array in (QUERIES, KEYS, VALUES)]
    mask = torch.tensor(HIDDEN) if hidden else None
    visible = [[i for i in range(7) if not (hidden and row[i])] for row in HIDDEN]
    expected = [formula(query, keys, width) for query, keys in zip(QUERIES, visible, strict=True)]
    assert net(*inputs, mask).detach().numpy() == pytest.approx(np.array(expected), abs=1e-5)
    weights = net.attention(*inputs[:2], mask).detach().numpy()
    assert weights.sum(1) == pytest.approx(np.ones(5), abs=1e-6)
    assert weights.min() >= 0
    if hidden:
        assert np.all(weights[HIDDEN] == 0)


def test_only_a_learned_width_is_a_parameter() -> None:
    assert list(NadarayaWatson(width=0.5).parameters()) == []
    (w,) = NadarayaWatson(width=0.5, learn=True).parameters()
    assert w.item() == 2.0


def test_far_from_all_keys_the_weights_are_finite() -> None:
    net = NadarayaWatson(width=0.01)
    result = net(torch.tensor([[1e4]]), torch.tensor([[0.0], [1.0]]), torch.tensor([5.0, 7.0]))
    assert result.item() == 7.0, "the nearest key's value"


def test_an_average_has_nothing_to_learn() -> None:
    with pytest.raises(Refusal, match=r"learn: pooling: average has no width to learn; set learn: false"):
        NadarayaWatson("average", learn=True)
