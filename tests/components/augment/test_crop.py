"""Crops match torchvision's, picture by picture, and their boxes follow the same distribution."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import chisquare, ks_2samp
from torchvision.transforms.v2 import RandomResizedCrop as TorchvisionCrop
from torchvision.transforms.v2 import functional as V

from components.augment.crop import Boxes, RandomCrop, RandomResizedCrop, resized_crop, shifted_crop
from components.errors import Refusal

SIDES = ("top", "left", "height", "width")  # torchvision's names of the fields of Boxes


@pytest.mark.parametrize("shape", [(60, 3, 16, 16), (60, 1, 13, 30)], ids=str)
@pytest.mark.parametrize("size", [(16, 16), (7, 7), (40, 25)])
def test_a_resized_crop_matches_torchvision(shape: tuple[int, ...], size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(shape, generator=generator)
    boxes = RandomResizedCrop(scale=[0.02, 1.0], ratio=[0.3, 3.0]).draw(images, generator)
    cropped = resized_crop(images, boxes, size)
    for image, ours, *box in zip(images, cropped, *boxes, strict=True):
        expected = V.resized_crop(image, *(int(side) for side in box), list(size), antialias=False)
        assert torch.allclose(ours, expected, atol=5e-5)


def test_boxes_follow_the_distribution_of_torchvision() -> None:
    """Compare areas, shapes and positions by Kolmogorov-Smirnov tests."""
    images = torch.zeros(3000, 1, 48, 64)
    ours = torch.stack(RandomResizedCrop(scale=[0.2, 0.9]).draw(images, torch.Generator().manual_seed(0)), 1).int()
    torch.manual_seed(0)
    transform = TorchvisionCrop(32, scale=(0.2, 0.9))
    drawn = [transform.make_params([images[0]]) for _ in range(3000)]
    oracle = torch.tensor([[parameters[name] for name in SIDES] for parameters in drawn])
    y, x, height, width = ours.unbind(1)
    assert ((y >= 0) & (x >= 0) & (height >= 1) & (width >= 1)).all()
    assert ((y + height <= 48) & (x + width <= 64)).all()
    assert ks_2samp((height * width).numpy(), (oracle[:, 2] * oracle[:, 3]).numpy()).pvalue > 1e-3
    for column, name in enumerate(SIDES):
        assert ks_2samp(ours[:, column].numpy(), oracle[:, column].numpy()).pvalue > 1e-3, name


@pytest.mark.parametrize(
    ("shape", "ratio"), [((10, 100), [0.75, 1.33]), ((100, 10), [0.75, 1.33]), ((20, 20), [2.0, 3.0])]
)
def test_where_no_box_fits_the_centre_is_cropped(shape: tuple[int, int], ratio: list[float]) -> None:
    images = torch.zeros(5, 1, *shape)
    boxes = RandomResizedCrop(scale=[1.0, 1.0], ratio=ratio).draw(images, torch.Generator().manual_seed(0))
    expected = TorchvisionCrop(8, scale=(1.0, 1.0), ratio=tuple(ratio)).make_params([images[0]])
    for name, values in zip(SIDES, boxes, strict=True):
        assert values.tolist() == [expected[name]] * 5, name


def test_no_pixel_outside_the_crop_is_read() -> None:
    image = torch.ones(1, 1, 20, 20)
    image[..., 5:10, 5:10] = 0
    box = Boxes(*(torch.tensor([side]) for side in (5.0, 5.0, 5.0, 5.0)))
    assert resized_crop(image, box, (32, 32)).abs().max() < 1e-5


def test_size_sets_the_side() -> None:
    assert RandomResizedCrop(size=9)(torch.rand(4, 3, 16, 16), torch.Generator()).shape == (4, 3, 9, 9)


def test_a_shifted_crop_matches_torchvision() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(50, 3, 9, 12, generator=generator)
    y, x = torch.randint(0, 7, (2, 50), generator=generator)
    cropped = shifted_crop(images, y, x, padding=3)
    for image, ours, row, column in zip(images, cropped, y.tolist(), x.tolist(), strict=True):
        assert torch.equal(ours, V.crop(V.pad(image, [3, 3, 3, 3]), row, column, 9, 12))


def test_every_shift_is_equally_likely() -> None:
    lone = torch.zeros(5000, 1, 11, 11)
    lone[:, :, 5, 5] = 1
    out = RandomCrop(padding=2)(lone, torch.Generator().manual_seed(0))
    counts = out.sum(0)[0]
    assert counts.sum() == 5000
    assert chisquare(counts[3:8, 3:8].flatten().numpy()).pvalue > 1e-3


@pytest.mark.parametrize("arguments", [{"scale": [1.0, 0.5]}, {"ratio": [0.0, 1.0]}, {"scale": [0.5]}])
def test_an_invalid_range_is_refused(arguments: dict) -> None:
    with pytest.raises(Refusal, match=r"is not a valid \[low, high\]"):
        RandomResizedCrop(**arguments)
