"""Boxes are led to the cells of YOLO's grid and back."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.layers.grid import GridOutput, locate_boxes


@given(seed=st.integers(0, 2**31), cells=st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_places_in_cells_lead_back_to_the_boxes(seed: int, cells: int) -> None:
    size = (48, 80)
    ends = torch.rand(2, 6, 2, 2, generator=torch.Generator().manual_seed(seed)).sort(dim=2).values
    boxes = (ends * torch.tensor([80, 48])).flatten(2)
    cell, place = locate_boxes(boxes, cells, size)
    assert (place >= 0).all()
    assert (place <= 1).all()
    for picture in range(2):
        for row in range(6):
            x, y = ((boxes[picture, row, i] + boxes[picture, row, i + 2]) / 2 for i in (0, 1))
            assert cell[picture, row] == int(y / (48 / cells)) * cells + int(x / (80 / cells))
            grid = torch.zeros(1, cells**2, 1, 4)
            grid[0, cell[picture, row], 0] = place[picture, row]
            corners = GridOutput(grid, grid[..., 0], grid[..., 0], cells, size).corners()
            torch.testing.assert_close(corners[0, cell[picture, row], 0], boxes[picture, row], rtol=1e-4, atol=1e-3)


def test_a_centre_on_the_far_edge_belongs_to_the_last_cell() -> None:
    cell, place = locate_boxes(torch.tensor([[64.0, 64, 64, 64]]), 8, (64, 64))
    assert cell.tolist() == [63]
    assert place.tolist() == [[1, 1, 0, 0]]
