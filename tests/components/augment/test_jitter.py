"""Colour changes match torchvision's, picture by picture, with the same factors in the same order."""

from __future__ import annotations

import itertools

import pytest
import torch
from scipy.stats import kstest
from torch import Tensor
from torchvision.transforms.v2 import functional as V

from components.augment import jitter
from components.augment.jitter import ColorJitter, change_brightness, change_contrast, change_hue, change_saturation
from components.errors import Refusal

ORACLES = {
    change_brightness: V.adjust_brightness,
    change_contrast: V.adjust_contrast,
    change_saturation: V.adjust_saturation,
    change_hue: V.adjust_hue,
}


def pictures(channels: int = 3, count: int = 30) -> Tensor:
    """Return random pictures, and the special cases of hue: greys, primaries, black, white, two equal channels."""
    images = torch.rand(count, channels, 8, 9, generator=torch.Generator().manual_seed(0))
    levels = torch.tensor([0.0, 0.25, 1.0])
    corners = torch.cartesian_prod(*[levels] * channels).reshape(-1, channels).T[:, : 8 * 9]
    images[0].view(channels, -1)[:, : corners.shape[1]] = corners
    images[1] = images[1][:1]
    return images


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("change", ORACLES, ids=lambda change: change.__name__)
def test_each_change_matches_torchvision(change, channels: int) -> None:
    images = pictures(channels)
    factors = torch.linspace(-0.5, 0.5, 30) if change is change_hue else torch.linspace(0, 2, 30)
    changed = change(images, factors)
    for image, ours, factor in zip(images, changed, factors.tolist(), strict=True):
        assert torch.allclose(ours, ORACLES[change](image, factor), atol=1e-5)


def test_all_changes_match_torchvision_in_some_order() -> None:
    """With the same factors, torchvision gives the same pictures in exactly one order of the changes."""
    images, transform = pictures(), ColorJitter(0.6, 0.5, 0.9, 0.3)
    orders = set()
    for seed in range(8):
        changed = transform(images, torch.Generator().manual_seed(seed))
        generator = torch.Generator().manual_seed(seed)
        factors = {
            change: jitter.draw_uniform(*span, len(images), generator) for change, span in transform.ranges.items()
        }
        fits = [order for order in itertools.permutations(ORACLES) if close(changed, oracle(images, order, factors))]
        assert len(fits) == 1
        orders.add(fits[0])
    assert len(orders) > 4


def oracle(images: Tensor, order: tuple, factors: dict) -> Tensor:
    out = []
    for row, image in enumerate(images):
        for change in order:
            image = ORACLES[change](image, float(factors[change][row]))
        out.append(image)
    return torch.stack(out)


def close(a: Tensor, b: Tensor) -> bool:
    """Compare all but one value of 1,000: the hue of a nearly grey colour amplifies rounding errors."""
    return bool(((a - b).abs() > 1e-4).float().mean() < 1e-3)


def test_factors_are_uniform_around_one() -> None:
    transform = ColorJitter(brightness=0.4, contrast=1.5, hue=0.1)
    assert transform.ranges == {change_brightness: (0.6, 1.4), change_contrast: (0.0, 2.5), change_hue: (-0.1, 0.1)}
    grey = torch.full((4000, 1, 1, 1), 0.5)
    changed = ColorJitter(brightness=0.4)(grey, torch.Generator().manual_seed(0)).flatten().numpy() / 0.5
    assert kstest((changed - 0.6) / 0.8, "uniform").pvalue > 1e-3


def test_grey_pictures_keep_their_colour() -> None:
    images = pictures(channels=1)
    assert torch.equal(ColorJitter(saturation=0.9, hue=0.5)(images, torch.Generator().manual_seed(0)), images)


def test_more_than_half_the_circle_is_refused() -> None:
    with pytest.raises(Refusal, match=r"hue: 0\.6 is more than half"):
        ColorJitter(hue=0.6)
