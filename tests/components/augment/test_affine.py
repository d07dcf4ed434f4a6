"""Affine transforms match torchvision's, picture by picture, and their amounts cover the configured ranges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as V

from components.augment.affine import RandomAffine, warp_affine
from components.errors import Refusal


@pytest.mark.parametrize("shape", [(60, 3, 16, 16), (40, 1, 11, 24), (40, 3, 21, 8)], ids=str)
def test_it_matches_torchvision(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(shape, generator=generator)
    amounts = RandomAffine(degrees=180, translate=0.3, scale=[0.5, 2.0], shear=40).draw(images, generator)
    transformed = warp_affine(images, *amounts)
    for image, ours, angle, right, down, scale, shear in zip(images, transformed, *amounts, strict=True):
        expected = V.affine(
            image,
            angle=float(angle),
            translate=[float(right), float(down)],
            scale=float(scale),
            shear=[float(shear), 0.0],
            interpolation=InterpolationMode.BILINEAR,
        )
        assert torch.allclose(ours, expected, atol=2e-4)


def test_a_shift_by_whole_pixels_moves_pixels() -> None:
    images = torch.rand(2, 1, 5, 6)
    still = torch.zeros(2)
    moved = warp_affine(images, still, torch.tensor([2.0, 0.0]), torch.tensor([0.0, -1.0]), still + 1, still)
    assert torch.allclose(moved[0, :, :, 2:], images[0, :, :, :-2], atol=1e-5)
    assert moved[0, :, :, :2].abs().max() < 1e-5
    assert torch.allclose(moved[1, :, :-1], images[1, :, 1:], atol=1e-5)


def test_amounts_are_uniform_over_their_ranges() -> None:
    images = torch.zeros(4000, 1, 10, 20)
    transform = RandomAffine(degrees=30, translate=0.25, scale=[0.5, 1.5], shear=12)
    amounts = transform.draw(images, torch.Generator().manual_seed(3))
    ranges = [(-30, 30), (-5, 5), (-2.5, 2.5), (0.5, 1.5), (-12, 12)]
    for values, (low, high) in zip(amounts, ranges, strict=True):
        assert kstest((values.numpy() - low) / (high - low), "uniform").pvalue > 1e-3
    assert np.abs(np.corrcoef(np.stack([v.numpy() for v in amounts])) - np.eye(5)).max() < 0.07


@pytest.mark.parametrize("scale", [[1.2, 0.8], [0.0, 1.0], [1.0], [0.5, 1.0, 2.0]])
def test_an_invalid_scale_is_refused(scale: list[float]) -> None:
    with pytest.raises(Refusal, match=r"scale: .* is not a valid \[low, high\]"):
        RandomAffine(scale=scale)
