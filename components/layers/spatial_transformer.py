"""The spatial transformer: a layer that learns to move, turn and scale its input (Jaderberg et al. 2015).

Notes: convolutions do not cope with scaled and turned pictures. A small network predicts six numbers per picture, an
affine map from output to input positions; the output is the input read at the mapped positions. Positions are in -1..1
from border to border, as in `torch.nn.functional.affine_grid` with align_corners=False.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..recipes.ranges import Count, Positive

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


class SpatialTransformer(nn.Module):
    """Map pictures [B, C, H, W] to pictures of the same shape.

    hidden: units of the network that predicts the map. pace: factor on the predicted departure from the identity; below
    1 the map changes more slowly than the layers behind it. With 1 they lose the picture before they can read it.
    """

    def __init__(self, channels: int, size: tuple[int, int], hidden: Count = 32, pace: Positive = 0.1) -> None:
        super().__init__()
        self.pace = pace
        output = nn.Linear(hidden, 6)
        self.locate = nn.Sequential(
            nn.Flatten(), nn.Linear(channels * size[0] * size[1], hidden), nn.ReLU(inplace=True), output
        )
        with torch.no_grad():  # the layer begins as the identity
            output.weight.zero_()
            output.bias.zero_()
        self.register_buffer("identity", torch.tensor(IDENTITY), persistent=False)
        self.identity: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Return the pictures read at the predicted positions."""
        affine = (self.identity + self.pace * self.locate(x)).view(-1, 2, 3)
        return sample_bilinearly(x, map_positions(affine, x.shape[2], x.shape[3]))


def map_positions(affine: Tensor, height: int, width: int) -> Tensor:
    """Return input positions (x, y) [B, H, W, 2] in -1..1 for affine maps [B, 2, 3] of the output's pixel centres."""
    rows, columns = (
        (2 * torch.arange(side, device=affine.device, dtype=affine.dtype) + 1) / side - 1 for side in (height, width)
    )
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    centres = torch.stack([x, y, torch.ones_like(x)], dim=-1)
    return torch.einsum("hwk,bik->bhwi", centres, affine)


def sample_bilinearly(x: Tensor, positions: Tensor) -> Tensor:
    """Return pictures [B, C, H', W'] of x [B, C, H, W] at positions (x, y) [B, H', W', 2]; it is 0 outside."""
    batch, channels, height, width = x.shape
    across, down = (((positions[..., axis] + 1) * side - 1) / 2 for axis, side in ((0, width), (1, height)))
    first_column, first_row = across.floor(), down.floor()
    flat = x.flatten(2)
    total = torch.zeros(1, device=x.device, dtype=x.dtype)
    for row, column in (
        (first_row, first_column),
        (first_row, first_column + 1),
        (first_row + 1, first_column),
        (first_row + 1, first_column + 1),
    ):
        weight = (1 - (across - column).abs()) * (1 - (down - row).abs())
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        index = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
        values = flat.gather(2, index.view(batch, 1, -1).expand(-1, channels, -1)).view(
            batch, channels, *index.shape[1:]
        )
        total = total + values * (weight * inside)[:, None]
    return total
