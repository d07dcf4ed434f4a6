"""Apply one of fourteen changes to each picture of a batch, drawn per picture: RandAugment and TrivialAugment.

Every change matches torchvision's (v2, float pictures, bilinear), with its own amount per picture. Pictures with the
same change are processed together, and all geometric changes share one resampling.
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

BINS = 31  # magnitudes are 0 to 30
MOVES = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
UNSIGNED = ("identity", "posterize", "solarize", "autocontrast", "equalize")
CHANGES = (*MOVES, "brightness", "color", "contrast", "sharpness", *UNSIGNED)
Levels = dict[str, float]  # {change: its amount at the largest magnitude}

# RandAugment translates by shares of the side, TrivialAugment by up to 32 pixels, whatever the size of the picture.
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
    """Several random changes of pictures [B, C, H, W], all at one magnitude of 0 to 30 (Cubuk et al. 2020)."""

    def __init__(self, changes: Natural = 2, magnitude: Natural = 9) -> None:
        if magnitude >= BINS:
            raise Refusal(f"magnitude: {magnitude} is above {BINS - 1}; set 0 to {BINS - 1}")
        self.changes, self.magnitude = changes, magnitude

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        height, width = images.shape[2:]
        top = RAND_LEVELS | {
            "translate_x": RAND_LEVELS["translate_x"] * width,
            "translate_y": RAND_LEVELS["translate_y"] * height,
        }
        for _ in range(self.changes):
            bins = torch.full((len(images),), float(self.magnitude), device=images.device)
            images = _change_each(images, bins, top, generator)
        return images


class TrivialAugment:
    """One random change of pictures [B, C, H, W] at a random magnitude per picture (Müller & Hutter 2021)."""

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        bins = draw_uniform(0, BINS, len(images), generator).floor_().clamp_(max=BINS - 1)
        return _change_each(images, bins, TRIVIAL_LEVELS, generator)


def _change_each(images: Tensor, bins: Tensor, top: Levels, generator: torch.Generator) -> Tensor:
    """Apply one random change to each of images [B, C, H, W], at its magnitude bins [B]; `top` is that of bin 30."""
    signs = draw_uniform(-1, 1, len(images), generator).sign_()
    kinds = host_random(generator).choices(CHANGES, k=len(images))
    # Sort the pictures by their change, so that each change is one call. MOVES are first, and share one resampling.
    groups = {kind: [row for row, drawn in enumerate(kinds) if drawn == kind] for kind in CHANGES}
    rows = torch.tensor(list(chain.from_iterable(groups.values())), device=images.device)
    images = images[rows]
    unsigned = bins[rows] / (BINS - 1)
    signed = unsigned * signs[rows]
    parts, matrices = [], []
    start = 0
    for kind in CHANGES:
        stop = start + len(groups[kind])
        if start < stop:
            amount = (unsigned if kind in UNSIGNED else signed)[start:stop] * top.get(kind, 1.0)
            if kind in MOVES:
                matrices.append(sampling_matrix(kind, amount, images.shape[2], images.shape[3]))
            else:
                parts.append(apply_change(kind, images[start:stop], amount))
        start = stop
    if matrices:
        moves = torch.cat(matrices)
        parts.insert(0, resample(images[: len(moves)], moves))
    original_order = torch.empty_like(rows).scatter_(0, rows, torch.arange(len(rows), device=rows.device))
    return torch.cat(parts)[original_order]


def apply_change(kind: str, images: Tensor, amount: Tensor) -> Tensor:
    """Apply the change `kind` to images [B, C, H, W] in 0..1, each by its `amount` [B].

    Units of the amount: degrees (rotate), pixels (translate), bits (posterize), otherwise shares.
    """
    if kind in MOVES:
        return resample(images, sampling_matrix(kind, amount, images.shape[2], images.shape[3]))
    return COLOURS[kind](images, amount)


# ------------------------------------------------------------------------------------------------ moves


def sampling_matrix(kind: str, amount: Tensor, height: int, width: int) -> Tensor:
    """Return matrices [B, 2, 3] that map (x, y, 1) of an output pixel to its source, in pixels from the centre.

    Shears keep the upper left corner in place, as in the code of the papers. Positive angles are counterclockwise.
    """
    ones, zeros = torch.ones_like(amount), torch.zeros_like(amount)
    angle = amount.deg2rad()
    rows = {
        "shear_x": (ones, amount, amount * height / 2, zeros, ones, zeros),
        "shear_y": (ones, zeros, zeros, amount, ones, amount * width / 2),
        "translate_x": (ones, zeros, -amount.trunc(), zeros, ones, zeros),
        "translate_y": (ones, zeros, zeros, zeros, ones, -amount.trunc()),
        "rotate": (angle.cos(), -angle.sin(), zeros, angle.sin(), angle.cos(), zeros),
    }
    return torch.stack(rows[kind], 1).view(-1, 2, 3)


def resample(images: Tensor, matrices: Tensor) -> Tensor:
    """Sample images [B, C, H, W] at matrices [B, 2, 3] times the output pixels: bilinear, black outside."""
    height, width = images.shape[2:]
    x = (torch.arange(width, device=images.device) - (width - 1) / 2).view(1, 1, -1)
    y = (torch.arange(height, device=images.device) - (height - 1) / 2).view(1, -1, 1)
    a, b, c, d, e, f = matrices.view(-1, 6, 1, 1).unbind(1)
    # Not a matrix product: autocast would round it.
    grid = torch.stack([(a * x + b * y + c) * (2 / width), (d * x + e * y + f) * (2 / height)], dim=3)
    return F.grid_sample(images, grid, align_corners=False)


# ------------------------------------------------------------------------------------------------ colours


def sharpen(images: Tensor, amount: Tensor) -> Tensor:
    """Move images [B, C, H, W] away from (amount [B] > 0) or towards their blurred versions, except at the edge.

    The kernel of the blur is (1 1 1, 1 5 1, 1 1 1) / 13.
    """
    if min(images.shape[2:]) <= 2:
        return images
    inner = images[:, :, 1:-1, 1:-1]
    blurred = (F.avg_pool2d(images, 3, stride=1) * 9 + 4 * inner) / 13
    result = images.clone()
    result[:, :, 1:-1, 1:-1] = inner - (blurred - inner) * per_picture(amount)
    return result.clamp_(0, 1)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Set the lowest `bits` [B] of the 8 bits of each value to 0."""
    levels = per_picture(2 ** (8 - bits).round())
    return (images * levels).floor_().minimum(levels - 1) / levels


def solarize(images: Tensor, amount: Tensor) -> Tensor:
    """Invert the values that are at least 1 - amount [B]."""
    return torch.where(images >= per_picture(1 - amount), 1 - images, images)


def autocontrast(images: Tensor, amount: Tensor) -> Tensor:
    """Stretch each channel to 0..1, unless it has only one value; `amount` is ignored."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    flat = high == low
    return ((images - low.masked_fill(flat, 0)) / (high - low).masked_fill(flat, 1)).clamp_(0, 1)


def equalize(images: Tensor, amount: Tensor) -> Tensor:
    """Equalize the histogram of each channel by Pillow's rule for 256 grey levels; `amount` is ignored."""
    levels = (images * 255.999).long().flatten(2)
    counts = torch.zeros(*levels.shape[:2], 256, dtype=torch.long, device=images.device)
    counts.scatter_add_(2, levels, torch.ones_like(levels))
    total = counts.cumsum(2)
    last = counts.gather(2, total.argmax(2, keepdim=True))  # count of the brightest level
    step = (levels.shape[2] - last) // 255
    table = ((total[:, :, :-1] + step // 2) // step.clamp(min=1)).clamp_(0, 255)
    table = F.pad(table, (1, 0))
    equalized = torch.where(step != 0, table.gather(2, levels), levels)
    return (equalized / 255).view_as(images)


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
