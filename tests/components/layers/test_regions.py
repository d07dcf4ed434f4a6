"""RoI pooling and RoI align match torchvision's, values and gradients."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision import ops

from components.layers.regions import align_regions, pool_regions

cases = st.tuples(st.integers(0, 2**31), st.integers(1, 13), st.integers(1, 13), st.integers(1, 6))


def draw_case(seed: int, height: int, width: int, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Draw maps [2, 3, H, W] twice, to be differentiated, and regions [2, 5, 4] within the picture."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(2, 3, height, width, dtype=torch.float64, generator=generator)
    ends = torch.rand(2, 5, 2, 2, dtype=torch.float64, generator=generator).sort(dim=2).values
    regions = (ends * torch.tensor([width, height]) / scale).flatten(2)
    return maps.requires_grad_(), maps.detach().clone().requires_grad_(), regions


def check_equality(ours: Tensor, expected: Tensor, maps: Tensor, other_maps: Tensor) -> None:
    """Check that two results [B, R, C, side, side], and their gradients, are equal."""
    torch.testing.assert_close(ours, expected)
    weights = torch.randn(ours.shape, dtype=ours.dtype, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(ours, maps, weights)
    (other_gradient,) = torch.autograd.grad(expected, other_maps, weights)
    torch.testing.assert_close(gradient, other_gradient)


@given(case=cases)
@settings(max_examples=60, deadline=None)
def test_pooling_equals_torchvisions(case: tuple[int, int, int, int]) -> None:
    seed, height, width, side = case
    maps, other_maps, regions = draw_case(seed, height, width, 0.25)
    ours = pool_regions(maps, regions, 0.25, side)
    expected = ops.roi_pool(other_maps, list(regions), side, 0.25).view_as(ours)
    assert torch.equal(ours, expected)
    check_equality(ours, expected, maps, other_maps)


@given(case=cases, samples=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_align_equals_torchvisions(case: tuple[int, int, int, int], samples: int) -> None:
    seed, height, width, side = case
    maps, other_maps, regions = draw_case(seed, height, width, 0.5)
    ours = align_regions(maps, regions, 0.5, side, samples)
    expected = ops.roi_align(other_maps, list(regions), side, 0.5, samples, aligned=True).view_as(ours)
    check_equality(ours, expected, maps, other_maps)


def test_pooling_divides_a_region_into_bins() -> None:
    """Check the example of the notes: a 4 x 4 map, whose upper left 3 x 3 region is pooled to 2 x 2."""
    maps = torch.arange(16.0).view(1, 1, 4, 4)
    pooled = pool_regions(maps, torch.tensor([[[0.0, 0, 20, 20], [0, 10, 30, 30]]]), 0.1, 2)
    assert pooled.tolist() == [[[[[5.0, 6], [9, 10]]], [[[9.0, 11], [13, 15]]]]]


def test_regions_of_no_area_and_none_at_all_are_no_special_case() -> None:
    maps = torch.randn(2, 3, 4, 4)
    for function in (pool_regions, align_regions):
        assert function(maps, torch.zeros(2, 0, 4), 0.5, 2).shape == (2, 0, 3, 2, 2)
        assert function(maps, torch.zeros(2, 1, 4), 0.5, 2).isfinite().all()
