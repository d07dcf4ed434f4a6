"""Pool the features of regions of a map to one size: RoI pooling and RoI align (notes: Fast R-CNN, Mask R-CNN).

Regions are boxes [B, R, 4] in pixels, R for each of the B pictures with maps [B, C, H, W]; `scale` is the number of
cells of the map per pixel. Both functions return [B, R, C, side, side] and match those of torchvision.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pool_regions(maps: Tensor, regions: Tensor, scale: float, side: int) -> Tensor:
    """Return the largest value in each of side x side bins of every region, and 0 for a bin outside the map.

    The region is rounded to whole cells and has at least one; bins share their border cells (Girshick 2015). The
    maximum of a bin is that of four overlapping rectangles of 2^i x 2^j cells, whose maxima are tabulated once per map.
    """
    if len(maps) > 1 and maps.device.type == "cpu" and not maps.requires_grad:
        # The tables of one picture fit into a processor's cache.
        pictures = zip(maps.split(1), regions.split(1), strict=True)
        return torch.cat([pool_regions(*picture, scale, side) for picture in pictures])
    height, width = maps.shape[2:]
    cells = torch.floor(regions.detach() * scale + 0.5)
    first, last = cells[..., :2], cells[..., 2:]
    steps = (last - first + 1).clamp(min=1)[..., None] / side
    index = torch.arange(side, device=maps.device)
    most = torch.tensor([width, height], device=maps.device)[:, None]
    starts = torch.minimum(((index * steps).floor() + first[..., None]).clamp(min=0), most).long()
    ends = torch.minimum((((index + 1) * steps).ceil() + first[..., None]).clamp(min=0), most).long()
    (x1, y1), (x2, y2) = starts.unbind(-2), ends.unbind(-2)
    longest = -(-(max(height, width) + 1) // side) + 1  # cells that a bin can span
    levels = (min(height, longest).bit_length(), min(width, longest).bit_length())
    flat = maps.permute(0, 2, 3, 1).contiguous()
    values, cells_of_values = _tabulate_maxima(flat.detach(), levels, maps.requires_grad)
    (level_x, last_x), (level_y, last_y) = (_cover(x1, x2), _cover(y1, y2))
    picture = torch.arange(len(maps), device=maps.device)[:, None, None, None]
    block = (level_y[..., :, None] * levels[1] + level_x[..., None, :]) * len(maps) + picture
    rows = [
        (block * height + y.clamp(max=height - 1)[..., :, None]) * width + x.clamp(max=width - 1)[..., None, :]
        for y in (y1, last_y)
        for x in (x1, last_x)
    ]
    bins = _take_rows(values, rows[0])
    if maps.requires_grad:
        # Only the cell with the maximum has a gradient.
        best = _take_rows(cells_of_values, rows[0])
        for row in rows[1:]:
            other = _take_rows(values, row)
            best = torch.where(other > bins, _take_rows(cells_of_values, row), best)
            bins = torch.maximum(bins, other)
        bins = flat.view(-1)[best]
    else:
        for row in rows[1:]:
            torch.maximum(bins, _take_rows(values, row), out=bins)
    is_empty = (y2 <= y1)[..., :, None] | (x2 <= x1)[..., None, :]
    return bins.masked_fill(is_empty[..., None], 0.0).movedim(-1, 2)


def _tabulate_maxima(maps: Tensor, levels: tuple[int, int], with_cells: bool) -> tuple[Tensor, Tensor]:
    """Return the maxima of the rectangles of 2^i x 2^j cells from every cell of maps [B, H, W, C] on.

    The table [rows of levels * columns of levels * B * H * W, C] comes with the flat place of each maximum in the maps,
    if asked for. Rectangles that extend beyond the map count the cells within it.
    """
    cells = torch.arange(maps.numel() if with_cells else 0, device=maps.device)
    pair = (maps, cells.view(maps.shape) if with_cells else cells)
    table = []
    for i in range(levels[0]):
        pair = _double(*pair, 2 ** (i - 1), dim=1) if i else pair
        columns = pair
        for j in range(levels[1]):
            columns = _double(*columns, 2 ** (j - 1), dim=2) if j else columns
            table.append(columns)
    values = torch.stack([level for level, _ in table]).flatten(0, 3)
    return values, torch.stack([level for _, level in table]).flatten(0, 3) if with_cells else cells


def _double(values: Tensor, cells: Tensor, length: int, dim: int) -> tuple[Tensor, Tensor]:
    """Return maxima and their places over twice `length` cells in direction `dim`, from those over `length`."""
    size = max(values.shape[dim] - length, 0)
    near, far = values.narrow(dim, 0, size), values.narrow(dim, values.shape[dim] - size, size)
    rest = values.shape[dim] - size
    if cells.dim() == values.dim():
        far_cells = cells.narrow(dim, cells.shape[dim] - size, size)
        nearer = torch.where(far > near, far_cells, cells.narrow(dim, 0, size))
        cells = torch.cat([nearer, cells.narrow(dim, size, rest)], dim)
    return torch.cat([torch.maximum(near, far), values.narrow(dim, size, rest)], dim), cells


def _take_rows(table: Tensor, rows: Tensor) -> Tensor:
    """Return the rows of a table [N, C] at an index of any shape [...]: [..., C]; faster than `table[rows]`."""
    return table.index_select(0, rows.flatten()).unflatten(0, rows.shape)


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
