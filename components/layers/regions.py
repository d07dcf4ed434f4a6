"""Pool the features of regions of a map to one size: RoI pooling and RoI align (notes: Fast R-CNN, Mask R-CNN).

Regions are boxes [B, R, 4] in pixels, R for each of the B pictures with maps [B, C, H, W]; `scale` is the number of
cells of the map per pixel. Both functions return [B, R, C, side, side] and match those of torchvision.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def pool_regions(maps: Tensor, regions: Tensor, scale: float, side: int) -> Tensor:
    """Return the largest value in each of side x side bins of every region, and 0 for a bin outside the map.

    The region is rounded to whole cells and has at least one; bins share their border cells (Girshick 2015). The
    maximum of a bin is that of four overlapping squares of 2^i x 2^j cells, whose maxima are tabulated once per map.
    """
    height, width = maps.shape[2:]
    cells = torch.floor(regions * scale + 0.5)
    first, last = cells[..., :2], cells[..., 2:]
    steps = (last - first + 1).clamp(min=1)[..., None] / side
    index = torch.arange(side, device=maps.device)
    most = torch.tensor([width, height], device=maps.device)[:, None]
    starts = torch.minimum(((index * steps).floor() + first[..., None]).clamp(min=0), most).long()
    ends = torch.minimum((((index + 1) * steps).ceil() + first[..., None]).clamp(min=0), most).long()
    (x1, y1), (x2, y2) = starts.unbind(-2), ends.unbind(-2)
    table, levels = _tabulate_maxima(maps)
    (level_x, last_x), (level_y, last_y) = (_cover(x1, x2), _cover(y1, y2))
    picture = torch.arange(len(maps), device=maps.device)[:, None, None, None]
    block = (level_y[..., :, None] * levels[1] + level_x[..., None, :]) * len(maps) + picture
    bins = None
    for y in (y1, last_y):
        for x in (x1, last_x):
            row = (block * height + y.clamp(max=height - 1)[..., :, None]) * width + x.clamp(max=width - 1)[
                ..., None, :
            ]
            values = F.embedding(row, table)  # its gradient is summed in a fixed order on every device
            bins = values if bins is None else torch.maximum(bins, values)
    assert bins is not None
    is_empty = (y2 <= y1)[..., :, None] | (x2 <= x1)[..., None, :]
    return bins.masked_fill(is_empty[..., None], 0.0).movedim(-1, 2)


def _tabulate_maxima(maps: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Return the maxima of all squares of 2^i x 2^j cells from every cell on, [levels * B * H * W, C], and the levels.

    Squares that extend beyond the map count the cells within it.
    """
    rows = [maps.permute(0, 2, 3, 1)]
    while 2 ** len(rows) <= maps.shape[2]:
        rows.append(_double(rows[-1], 2 ** (len(rows) - 1), dim=1))
    levels = []
    for row in rows:
        columns = [row]
        while 2 ** len(columns) <= maps.shape[3]:
            columns.append(_double(columns[-1], 2 ** (len(columns) - 1), dim=2))
        levels.append(torch.stack(columns))
    return torch.stack(levels).flatten(0, 4), (len(rows), len(levels[0]))


def _double(maxima: Tensor, length: int, dim: int) -> Tensor:
    """Return the maxima over twice `length` cells in direction `dim`, from those over `length`."""
    shifted = maxima.narrow(dim, length, maxima.shape[dim] - length)
    return torch.cat(
        [torch.maximum(maxima.narrow(dim, 0, shifted.shape[dim]), shifted), maxima.narrow(dim, -length, length)], dim
    )


def _cover(start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Return the level i, and the start of the second of two overlapping stretches of 2^i cells from start to end."""
    length = (end - start).clamp(min=1)
    level = torch.floor(torch.log2(length.double() + 0.5)).long()
    return level, (end - 2**level).clamp(min=0)


def align_regions(maps: Tensor, regions: Tensor, scale: float, side: int, samples: int = 2) -> Tensor:
    """Return the mean of `samples` x `samples` bilinear samples in each of side x side bins of every region.

    Nothing is rounded (He et al. 2017). Interpolation and mean are linear and separable, so they are two products with
    matrices, whose gradients are the same on every run, also on a GPU. Regions lie within the picture.
    """
    height, width = maps.shape[2:]
    rows = _interpolation(regions[..., 1] * scale, regions[..., 3] * scale, height, side, samples)
    columns = _interpolation(regions[..., 0] * scale, regions[..., 2] * scale, width, side, samples)
    count, channels = regions.shape[1], maps.shape[1]
    # [B, R * side, H] @ [B, H, C * W]
    by_row = rows.flatten(1, 2) @ maps.permute(0, 2, 1, 3).flatten(2)
    by_row = by_row.view(len(maps), count, side, channels, width).transpose(2, 3)
    return by_row @ columns.transpose(2, 3)[:, :, None]


def _interpolation(first: Tensor, last: Tensor, cells: int, side: int, samples: int) -> Tensor:
    """Return the weights [B, R, side, cells] of a line's cells in the bins from `first` to `last` [B, R].

    Cell i has its centre at i + 0.5; a sample before the first centre or after the last one takes that cell's value.
    """
    steps = (torch.arange(side * samples, device=first.device, dtype=first.dtype) + 0.5) / (side * samples)
    places = first[..., None] + (last - first)[..., None] * steps - 0.5
    places = places.clamp(0, cells - 1)
    distance = (places[..., None] - torch.arange(cells, device=first.device)).abs()
    return (1 - distance).clamp(min=0).unflatten(2, (side, samples)).mean(3)
