"""Change pictures together with their boxes and index maps, batched on the device, during training.

A transform takes and returns a Scenery. Pixels that come from outside a picture are 0 in it and in `instances`, and
IGNORED in `mask`. An object of which too little remains is removed from boxes, labels and index map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..data.masks import BACKGROUND, IGNORED
from ..errors import Refusal
from ..recipes.ranges import Count, Fraction, Positive
from .copies import Transform
from .draws import check_interval, draw_below, draw_uniform


@dataclass(frozen=True)
class Scenery:
    """A batch of annotated pictures.

    images float [B, C, H, W]; mask, instances: index maps [B, H, W] (data/masks.py) or None; boxes [N, 4] and labels
    [N] per picture, or empty lists. regions: {name: boxes [N, 4] per picture} without labels, such as proposals.
    """

    images: Tensor
    mask: Tensor | None = None
    instances: Tensor | None = None
    boxes: list[Tensor] = field(default_factory=list)
    labels: list[Tensor] = field(default_factory=list)
    regions: dict[str, list[Tensor]] = field(default_factory=dict)


class JointTransform(Protocol):
    """A random change of annotated pictures."""

    def __call__(self, scenery: Scenery, generator: torch.Generator, /) -> Scenery:
        """Return the changed pictures with their annotations."""


class Window:
    """The part of each picture that becomes its new content: [x0, x0 + width) becomes [0, new width), and mirrored.

    x, y, width, height: float [B], in pixels, also beyond the picture. flip: bool [B].
    """

    def __init__(self, x: Tensor, y: Tensor, width: Tensor, height: Tensor, flip: Tensor | None = None) -> None:
        self.x, self.y, self.width, self.height = x, y, width, height
        self.flip = torch.zeros_like(x, dtype=torch.bool) if flip is None else flip


class RandomFlip:
    """A flip of left and right, each picture with the same probability."""

    def __init__(self, probability: Fraction = 0.5) -> None:
        self.probability = probability

    def __call__(self, scenery: Scenery, generator: torch.Generator) -> Scenery:
        count, _, height, width = scenery.images.shape
        flip = draw_uniform(0, 1, count, generator) < self.probability
        full = torch.full((count,), float(width), device=generator.device)
        zero = torch.zeros_like(full)
        window = Window(zero, zero, full, torch.full_like(full, float(height)), flip)
        return cut_window(scenery, window, (height, width), 0.0)


class RandomCrop:
    """A crop of `size` (height, width) at a random place, in whole pixels (notes: image and label cropped together).

    Smaller pictures are padded on the right and below. visible: share of a box that must remain.
    """

    def __init__(self, size: list[Count], visible: Fraction = 0.3) -> None:
        if len(size) != 2:
            raise Refusal(f"size: {size} must be [height, width]")
        self.size = size[0], size[1]
        self.visible = visible

    def __call__(self, scenery: Scenery, generator: torch.Generator) -> Scenery:
        count, _, height, width = scenery.images.shape
        places = []
        for full, part in zip((width, height), self.size[::-1], strict=True):
            choices = torch.full((count,), float(max(0, full - part) + 1), device=generator.device)
            places.append(draw_below(choices, generator))
        sides = [torch.full_like(places[0], float(side)) for side in self.size[::-1]]
        return cut_window(scenery, Window(*places, *sides), self.size, self.visible)


class RandomScale:
    """A change of size by a random factor about a random place; the pictures keep their shape.

    scale: [smallest, largest] factor; below 1 there is a border around the picture. visible: share of a box that must
    remain.
    """

    def __init__(
        self,
        scale: list[Positive] = [0.75, 1.5],  # noqa: B006  (never written to)
        visible: Fraction = 0.3,
    ) -> None:
        self.scale = check_interval("scale", scale)
        self.visible = visible

    def __call__(self, scenery: Scenery, generator: torch.Generator) -> Scenery:
        count, _, height, width = scenery.images.shape
        scale = draw_uniform(*self.scale, count, generator)
        x = draw_uniform(0, 1, count, generator) * (width - width / scale)
        y = draw_uniform(0, 1, count, generator) * (height - height / scale)
        return cut_window(scenery, Window(x, y, width / scale, height / scale), (height, width), self.visible)


class Colours:
    """A transform of pictures alone, such as augment.jitter.ColorJitter, that leaves annotations as they are."""

    def __init__(self, of: Callable[..., Transform]) -> None:
        self.of = of()

    def __call__(self, scenery: Scenery, generator: torch.Generator) -> Scenery:
        return replace(scenery, images=self.of(scenery.images, generator))


def cut_window(scenery: Scenery, window: Window, size: tuple[int, int], visible: float) -> Scenery:
    """Return the windows of pictures and annotations, resized to `size` (height, width).

    Pictures are sampled bilinearly, index maps at the nearest pixel. An object stays if at least `visible` of its box
    is inside the window and, with `instances`, a pixel of it is.
    """
    height, width = scenery.images.shape[2:]
    x = _sample_positions(window.x, window.width, size[1], window.flip)
    y = _sample_positions(window.y, window.height, size[0], None)
    grid_x = ((2 * x + 1) / width - 1)[:, None, :].expand(-1, *size)
    grid_y = ((2 * y + 1) / height - 1)[:, :, None].expand(-1, *size)
    grid = torch.stack([grid_x, grid_y], 3).to(scenery.images.dtype)
    images = F.grid_sample(scenery.images, grid, align_corners=False)
    mask, instances = (
        None if index_map is None else _take_nearest(index_map, x, y, outside)
        for index_map, outside in ((scenery.mask, IGNORED), (scenery.instances, BACKGROUND))
    )
    boxes, labels = [], []
    for row, (box, label) in enumerate(zip(scenery.boxes, scenery.labels, strict=True)):
        cut, stays = _cut_boxes(box, window, row, size, visible)
        if instances is not None:
            counts = torch.bincount(instances[row].flatten().long(), minlength=len(box) + 1)
            stays &= counts[1 : len(box) + 1] > 0
            numbers = torch.where(stays, stays.cumsum(0), 0)
            numbers = torch.cat([numbers.new_zeros(1), numbers]).to(instances.dtype)
            instances[row] = numbers[instances[row].long()]
        boxes.append(cut[stays])
        labels.append(label[stays])
    regions: dict[str, list[Tensor]] = {name: [] for name in scenery.regions}
    for name, pictures in scenery.regions.items():
        for row, box in enumerate(pictures):
            cut, stays = _cut_boxes(box, window, row, size, visible)
            regions[name].append(cut[stays])
    return Scenery(images, mask, instances, boxes, labels, regions)


def vary_batch(
    batch: dict[str, Any], transforms: Sequence[JointTransform], generator: torch.Generator
) -> dict[str, Any]:
    """Return the columns of a detector's batch after all `transforms`, in the types in which they came.

    image uint8 [B, H, W, C], boxes and labels change together with instances, crowd and proposals, where the batch has
    them. Pictures must keep their size. A crowd's labels are left out: no loss uses them.
    """
    if not transforms:
        return batch
    device = batch["image"].device
    regions: dict[str, list[Tensor]] = {
        name: _to_tensors(batch[name], device) for name in ("crowd", "proposals") if name in batch
    }
    scenery = Scenery(
        batch["image"].permute(0, 3, 1, 2).float().div_(255),
        instances=batch.get("instances"),
        boxes=_to_tensors(batch["boxes"], device),
        labels=_to_tensors(batch["labels"], device),
        regions=regions,
    )
    for transform in transforms:
        scenery = transform(scenery, generator)
    image = scenery.images.mul(255).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    if image.shape != batch["image"].shape:
        height, width = image.shape[1:3]
        raise Refusal(
            f"task.augment: makes pictures of {height} x {width}, but the network's anchors and cells need"
            f" {batch['image'].shape[1]} x {batch['image'].shape[2]}; use augment.joint.RandomScale to crop and resize"
        )
    lists = {"boxes": scenery.boxes, "labels": scenery.labels, **scenery.regions}
    varied = batch | {name: [values.cpu().numpy() for values in rows] for name, rows in lists.items()}
    return varied | {"image": image} | ({"instances": scenery.instances} if "instances" in batch else {})


def _to_tensors(rows: Sequence[np.ndarray], device: torch.device) -> list[Tensor]:
    return [torch.from_numpy(np.array(values)).to(device) for values in rows]


def _sample_positions(start: Tensor, length: Tensor, new: int, flip: Tensor | None) -> Tensor:
    """Return the positions [B, new], in pixels of the old picture, of the centres of the new pixels."""
    steps = (torch.arange(new, device=start.device) + 0.5) / new
    steps = steps.expand(len(start), -1)
    if flip is not None:
        steps = torch.where(flip[:, None], 1 - steps, steps)
    return start[:, None] + steps * length[:, None] - 0.5


def _take_nearest(index_map: Tensor, x: Tensor, y: Tensor, outside: int) -> Tensor:
    """Return the values [B, H', W'] of an index map [B, H, W] nearest to columns x [B, W'] and rows y [B, H']."""
    height, width = index_map.shape[1:]
    columns, rows = (x + 0.5).floor().long(), (y + 0.5).floor().long()
    inside = ((columns >= 0) & (columns < width))[:, None, :] & ((rows >= 0) & (rows < height))[:, :, None]
    picture = torch.arange(len(index_map), device=index_map.device)[:, None, None]
    values = index_map[picture, rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None, :]]
    return torch.where(inside, values, values.new_tensor(outside))


def _cut_boxes(boxes: Tensor, window: Window, row: int, size: tuple[int, int], visible: float) -> tuple[Tensor, Tensor]:
    """Return what the window of the picture number `row` shows of boxes [N, 4], and which of them stay: bool [N]."""
    moved = _move_boxes(boxes, window, row, size)
    cut = torch.minimum(moved.clamp(min=0), moved.new_tensor([size[1], size[0], size[1], size[0]]))
    area = (moved[:, 2:] - moved[:, :2]).prod(1)
    inside = (cut[:, 2:] - cut[:, :2]).clamp(min=0).prod(1)
    return cut, (inside > 0) & (inside >= visible * area)


def _move_boxes(boxes: Tensor, window: Window, row: int, size: tuple[int, int]) -> Tensor:
    """Return boxes [N, 4] of the picture number `row` in pixels of its window, not yet cut."""
    scale_x, scale_y = size[1] / window.width[row], size[0] / window.height[row]
    x1, x2 = (boxes[:, ::2] - window.x[row]).mul(scale_x).unbind(1)
    y1, y2 = (boxes[:, 1::2] - window.y[row]).mul(scale_y).unbind(1)
    x1, x2 = torch.where(window.flip[row], size[1] - x2, x1), torch.where(window.flip[row], size[1] - x1, x2)
    return torch.stack([x1, y1, x2, y2], 1).to(boxes.dtype)
