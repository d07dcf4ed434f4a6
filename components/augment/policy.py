"""Automatic augmentation: one of fourteen changes a picture, each picture its own (RandAugment, TrivialAugment).

Every change is torchvision's (v2, pictures as floats, bilinear), with an amount for each picture. The pictures that
share a change go through it together, and those that are moved in any way share one resampling.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import Refusal
from ..recipes.ranges import Natural
from .draws import draw_uniform, host_random, per_picture
from .jitter import change_brightness, change_contrast, change_saturation

BINS = 31  # of a magnitude: 0 to 30
MOVES = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
UNSIGNED = ("identity", "posterize", "solarize", "autocontrast", "equalize")  # have no sign
CHANGES = (*MOVES, "brightness", "color", "contrast", "sharpness", *UNSIGNED)
Levels = dict[str, float]  # change -> its amount at the greatest magnitude

# Translations in shares of the side (rand) or pixels of 32 (trivial: 32, whatever the picture's size).
RAND_LEVELS: Levels = {
    "shear_x": 0.3,
    "shear_y": 0.3,
    "translate_x": 150 / 331,
    "translate_y": 150 / 331,
    "rotate": 30.0,
}
RAND_LEVELS |= dict.fromkeys(("brightness", "color", "contrast", "sharpness"), 0.9) | {"posterize": 4.0}
TRIVIAL_LEVELS: Levels = {"shear_x": 0.99, "shear_y": 0.99, "translate_x": 32.0, "translate_y": 32.0, "rotate": 135.0}
TRIVIAL_LEVELS |= dict.fromkeys(("brightness", "color", "contrast", "sharpness"), 0.99) | {"posterize": 6.0}


class RandAugment:
    """`changes` random changes one after the other, all at `magnitude` of 30 (Cubuk et al. 2020): [B, C, H, W] kept."""

    def __init__(self, changes: Natural = 2, magnitude: Natural = 9) -> None:
        if magnitude >= BINS:
            raise Refusal(f"magnitude: {magnitude} is above {BINS - 1}; give 0 to {BINS - 1}")
        self.changes, self.magnitude = changes, magnitude

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        height, width = images.shape[2:]
        top = RAND_LEVELS | {
            "translate_x": RAND_LEVELS["translate_x"] * width,
            "translate_y": RAND_LEVELS["translate_y"] * height,
        }
        for _ in range(self.changes):
            bins = torch.full((len(images),), float(self.magnitude), device=images.device)
            images = _changed(images, bins, top, generator)
        return images


class TrivialAugment:
    """One random change at a random magnitude, from wide ranges (Müller & Hutter 2021): [B, C, H, W] kept."""

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        bins = draw_uniform(0, BINS, len(images), generator).floor_().clamp_(max=BINS - 1)
        return _changed(images, bins, TRIVIAL_LEVELS, generator)


def _changed(images: Tensor, bins: Tensor, top: Levels, generator: torch.Generator) -> Tensor:
    """Each picture through one change."""
    signs = draw_uniform(-1, 1, len(images), generator).sign_()
    kinds = host_random(generator).choices(CHANGES, k=len(images))
    groups = {kind: [row for row, chosen in enumerate(kinds) if chosen == kind] for kind in CHANGES}
    order = list(chain.from_iterable(groups.values()))
    rows = torch.tensor(order, device=images.device)
    images, amounts = images[rows], bins[rows] / (BINS - 1)
    amounts = torch.stack([amounts, amounts * signs[rows]])
    moved, start = sum(len(groups[kind]) for kind in MOVES), 0
    parts, moves = [], []
    for kind in CHANGES:
        stop = start + len(groups[kind])
        piece, amount = images[start:stop], amounts[int(kind not in UNSIGNED), start:stop] * top.get(kind, 1.0)
        if start < stop and kind in MOVES:
            moves.append(sampling_matrix(kind, amount, images.shape[2], images.shape[3]))
        elif start < stop:
            parts.append(apply_change(kind, piece, amount))
        start = stop
    if moves:
        parts.insert(0, resample(images[:moved], torch.cat(moves)))
    back = torch.empty_like(rows).scatter_(0, rows, torch.arange(len(rows), device=rows.device))
    return torch.cat(parts)[back]


def apply_change(kind: str, images: Tensor, amount: Tensor) -> Tensor:
    """One change of all `images` [B, C, H, W] in 0..1, each by its `amount` [B] (shares of the value for colours)."""
    if kind in MOVES:
        return resample(images, sampling_matrix(kind, amount, images.shape[2], images.shape[3]))
    return COLOURS[kind](images, amount)


# ------------------------------------------------------------------------------------------------ moves


def sampling_matrix(kind: str, amount: Tensor, height: int, width: int) -> Tensor:
    """Where an output pixel comes from, [B, 2, 3] applied to (x, y, 1) in pixels from the middle.

    Shears hold the upper left corner, as in the papers' code; a positive turn goes against the clock.
    """
    one, zero = torch.ones_like(amount), torch.zeros_like(amount)
    turn = amount.deg2rad()
    rows = {
        "shear_x": (one, amount, amount * height / 2, zero, one, zero),
        "shear_y": (one, zero, zero, amount, one, amount * width / 2),
        "translate_x": (one, zero, -amount.trunc(), zero, one, zero),
        "translate_y": (one, zero, zero, zero, one, -amount.trunc()),
        "rotate": (turn.cos(), -turn.sin(), zero, turn.sin(), turn.cos(), zero),
    }
    return torch.stack(rows[kind], 1).view(-1, 2, 3)


def resample(images: Tensor, matrices: Tensor) -> Tensor:
    """Bilinear, black outside. No matmul: under autocast it would lose the digits."""
    height, width = images.shape[2:]
    x = (torch.arange(width, device=images.device) - (width - 1) / 2).view(1, 1, -1)
    y = (torch.arange(height, device=images.device) - (height - 1) / 2).view(1, -1, 1)
    a, b, c, d, e, f = matrices.view(-1, 6, 1, 1).unbind(1)
    grid = torch.stack([(a * x + b * y + c) * (2 / width), (d * x + e * y + f) * (2 / height)], dim=3)
    return F.grid_sample(images, grid, align_corners=False)


# ------------------------------------------------------------------------------------------------ colours


def sharpen(images: Tensor, amount: Tensor) -> Tensor:
    """Away from (amount > 0) or towards the picture blurred by (1 1 1, 1 5 1, 1 1 1) / 13, but for its edge."""
    if min(images.shape[2:]) <= 2:
        return images
    inner = images[:, :, 1:-1, 1:-1]
    blurred = (F.avg_pool2d(images, 3, stride=1) * 9 + 4 * inner) / 13
    out = images.clone()
    out[:, :, 1:-1, 1:-1] = inner - (blurred - inner) * per_picture(amount)
    return out.clamp_(0, 1)


def posterize(images: Tensor, lost: Tensor) -> Tensor:
    """All but the upper 8 - `lost` bits of a value are dropped."""
    levels = per_picture(2 ** (8 - lost).round())
    return (images * levels).floor_().minimum(levels - 1) / levels


def solarize(images: Tensor, amount: Tensor) -> Tensor:
    """Values from 1 - `amount` on are inverted."""
    return torch.where(images >= per_picture(1 - amount), 1 - images, images)


def autocontrast(images: Tensor, amount: Tensor) -> Tensor:
    """Each channel stretched from 0 to 1, unless it has one value."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    flat = high == low
    return ((images - low.masked_fill(flat, 0)) / (high - low).masked_fill(flat, 1)).clamp_(0, 1)


def equalize(images: Tensor, amount: Tensor) -> Tensor:
    """Each channel's 256 grey levels made about equally frequent, by Pillow's rule (whole numbers)."""
    levels = (images * 255.999).long().flatten(2)
    counts = torch.zeros(*levels.shape[:2], 256, dtype=torch.long, device=images.device)
    counts.scatter_add_(2, levels, torch.ones_like(levels))
    total = counts.cumsum(2)
    last = counts.gather(2, total.argmax(2, keepdim=True))  # of the brightest level there is
    step = (levels.shape[2] - last) // 255
    table = ((total[:, :, :-1] + step // 2) // step.clamp(min=1)).clamp_(0, 255)
    table = F.pad(table, (1, 0))
    found = torch.where(step != 0, table.gather(2, levels), levels)
    return (found / 255).view_as(images)


COLOURS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": lambda images, amount: change_brightness(images, 1 + amount),
    "color": lambda images, amount: change_saturation(images, 1 + amount),
    "contrast": lambda images, amount: change_contrast(images, 1 + amount),
    "sharpness": sharpen,
    "identity": lambda images, amount: images,
    "posterize": posterize,
    "solarize": solarize,
    "autocontrast": autocontrast,
    "equalize": equalize,
}
