"""Crops, picture by picture against torchvision, and the boxes they draw against torchvision's own draws."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import chisquare, ks_2samp
from torchvision.transforms.v2 import RandomResizedCrop as Theirs
from torchvision.transforms.v2 import functional as V

from components.augment.crop import Boxes, RandomCrop, RandomResizedCrop, resized_crop, shifted_crop
from components.errors import Refusal


@pytest.mark.parametrize("shape", [(60, 3, 16, 16), (60, 1, 13, 30)], ids=str)
@pytest.mark.parametrize("size", [(16, 16), (7, 7), (40, 25)])
def test_a_piece_is_torchvisions(shape: tuple[int, ...], size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(shape, generator=generator)
    boxes = RandomResizedCrop(scale=[0.02, 1.0], ratio=[0.3, 3.0]).draw(images, generator)
    found = resized_crop(images, boxes, size)
    for image, ours, *box in zip(images, found, *boxes, strict=True):
        wanted = V.resized_crop(image, *(int(side) for side in box), list(size), antialias=False)
        assert torch.allclose(ours, wanted, atol=5e-5)


def test_boxes_are_drawn_as_torchvision_draws_them() -> None:
    """Kolmogorov-Smirnov on the pieces' areas, shapes and places."""
    images = torch.zeros(3000, 1, 48, 64)
    ours = torch.stack(RandomResizedCrop(scale=[0.2, 0.9]).draw(images, torch.Generator().manual_seed(0)), 1).int()
    torch.manual_seed(0)
    transform = Theirs(32, scale=(0.2, 0.9))
    drawn = [transform.make_params([images[0]]) for _ in range(3000)]
    theirs = torch.tensor([[one[name] for name in Boxes._fields] for one in drawn])
    top, left, height, width = ours.unbind(1)
    assert ((top >= 0) & (left >= 0) & (height >= 1) & (width >= 1)).all()
    assert ((top + height <= 48) & (left + width <= 64)).all()
    assert ks_2samp((height * width).numpy(), (theirs[:, 2] * theirs[:, 3]).numpy()).pvalue > 1e-3
    for column in range(4):
        assert ks_2samp(ours[:, column].numpy(), theirs[:, column].numpy()).pvalue > 1e-3, Boxes._fields[column]


@pytest.mark.parametrize(
    ("shape", "ratio"), [((10, 100), [0.75, 1.33]), ((100, 10), [0.75, 1.33]), ((20, 20), [2.0, 3.0])]
)
def test_where_nothing_fits_the_middle_is_taken(shape: tuple[int, int], ratio: list[float]) -> None:
    images = torch.zeros(5, 1, *shape)
    boxes = RandomResizedCrop(scale=[1.0, 1.0], ratio=ratio).draw(images, torch.Generator().manual_seed(0))
    wanted = Theirs(8, scale=(1.0, 1.0), ratio=tuple(ratio)).make_params([images[0]])
    for name in Boxes._fields:
        assert getattr(boxes, name).tolist() == [wanted[name]] * 5, name


def test_nothing_outside_the_piece_is_read() -> None:
    image = torch.ones(1, 1, 20, 20)
    image[..., 5:10, 5:10] = 0
    box = Boxes(*(torch.tensor([side]) for side in (5.0, 5.0, 5.0, 5.0)))
    assert resized_crop(image, box, (32, 32)).abs().max() < 1e-5


def test_size_is_another_side() -> None:
    assert RandomResizedCrop(size=9)(torch.rand(4, 3, 16, 16), torch.Generator()).shape == (4, 3, 9, 9)


def test_a_shifted_crop_is_torchvisions() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(50, 3, 9, 12, generator=generator)
    top, left = torch.randint(0, 7, (2, 50), generator=generator)
    found = shifted_crop(images, top, left, padding=3)
    for image, ours, y, x in zip(images, found, top.tolist(), left.tolist(), strict=True):
        assert torch.equal(ours, V.crop(V.pad(image, [3, 3, 3, 3]), y, x, 9, 12))


def test_every_shift_is_equally_likely() -> None:
    lone = torch.zeros(5000, 1, 11, 11)
    lone[:, :, 5, 5] = 1
    out = RandomCrop(padding=2)(lone, torch.Generator().manual_seed(0))
    seen = out.sum(0)[0]
    assert seen.sum() == 5000
    assert chisquare(seen[3:8, 3:8].flatten().numpy()).pvalue > 1e-3


@pytest.mark.parametrize("arguments", [{"scale": [1.0, 0.5]}, {"ratio": [0.0, 1.0]}, {"scale": [0.5]}])
def test_what_is_no_range_is_refused(arguments: dict) -> None:
    with pytest.raises(Refusal, match=r"is no \[low, high\]"):
        RandomResizedCrop(**arguments)
