"""Flips match torchvision's, and occur with the configured probability."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import binomtest
from torchvision.transforms.v2 import functional as V

from components.augment.flip import RandomHorizontalFlip, RandomVerticalFlip

CASES = [(RandomHorizontalFlip, V.horizontal_flip), (RandomVerticalFlip, V.vertical_flip)]


@pytest.mark.parametrize(("transform", "oracle"), CASES)
@pytest.mark.parametrize("probability", [0.0, 0.3, 0.5, 1.0])
def test_pictures_are_flipped_with_the_probability(transform, oracle, probability: float) -> None:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(2000, 3, 4, 5, generator=generator)
    out = transform(probability)(images, generator)
    mirrored = (out == oracle(images)).all(dim=(1, 2, 3))
    unchanged = (out == images).all(dim=(1, 2, 3))
    assert (mirrored ^ unchanged).all()
    assert binomtest(int(mirrored.sum()), 2000, probability).pvalue > 1e-3
