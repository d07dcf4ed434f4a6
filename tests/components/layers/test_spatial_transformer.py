"""Compare the spatial transformer with torch's affine_grid and grid_sample, and let it undo a move."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from components.layers.spatial_transformer import SpatialTransformer, map_positions, sample_bilinearly


def random_maps(count: int) -> torch.Tensor:
    return torch.eye(2, 3, dtype=torch.float64) + 0.4 * torch.randn(count, 2, 3, dtype=torch.float64)


def test_positions_and_samples_are_those_of_torch() -> None:
    torch.manual_seed(0)
    affine = random_maps(5)
    x = torch.randn(5, 3, 7, 9, dtype=torch.float64)
    positions = map_positions(affine, 7, 9)
    assert torch.allclose(positions, F.affine_grid(affine, [5, 3, 7, 9], align_corners=False))
    expected = F.grid_sample(x, positions, align_corners=False)
    assert (positions.abs() > 1).any(), "some positions lie outside"
    assert torch.allclose(sample_bilinearly(x, positions), expected)


def test_gradients_are_those_of_torch() -> None:
    torch.manual_seed(1)
    affine = random_maps(2).requires_grad_()
    x = torch.randn(2, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    ours = sample_bilinearly(x, map_positions(affine, 6, 6)).square().sum()
    theirs_grid = F.affine_grid(affine, [2, 1, 6, 6], align_corners=False)
    reference = F.grid_sample(x, theirs_grid, align_corners=False).square().sum()
    for gradient, expected in zip(
        torch.autograd.grad(ours, [affine, x]), torch.autograd.grad(reference, [affine, x]), strict=True
    ):
        assert torch.allclose(gradient, expected)


def test_the_layer_begins_as_the_identity_and_learns_a_move() -> None:
    torch.manual_seed(2)
    layer = SpatialTransformer(1, (8, 8), hidden=8, pace=1.0)
    x = F.avg_pool2d(torch.rand(16, 1, 8, 8), 3, stride=1, padding=1)
    assert torch.allclose(layer(x), x, atol=1e-6)
    moved = torch.roll(x, 1, dims=3)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
    losses = []
    for _ in range(150):
        loss = F.mse_loss(layer(x)[..., 1:], moved[..., 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
