"""Every batch transform is a pure function of the pictures and the random stream."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from components.augment.affine import RandomAffine
from components.augment.crop import RandomCrop, RandomResizedCrop
from components.augment.flip import RandomHorizontalFlip, RandomVerticalFlip
from components.augment.jitter import ColorJitter
from components.augment.policy import RandAugment, TrivialAugment

TRANSFORMS = {
    "affine": RandomAffine(degrees=20, translate=0.1, scale=[0.8, 1.2], shear=10),
    "crop": RandomCrop(padding=2),
    "resized crop": RandomResizedCrop(),
    "horizontal flip": RandomHorizontalFlip(),
    "vertical flip": RandomVerticalFlip(),
    "jitter": ColorJitter(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.2),
    "rand augment": RandAugment(),
    "trivial augment": TrivialAugment(),
}
IDLE = {
    "affine": RandomAffine(),
    "resized crop": RandomResizedCrop(scale=[1.0, 1.0], ratio=[1.0, 1.0]),
    "horizontal flip": RandomHorizontalFlip(probability=0),
    "vertical flip": RandomVerticalFlip(probability=0),
    "jitter": ColorJitter(),
    "rand augment": RandAugment(changes=0),
}
SHAPES = [(40, 3, 12, 12), (40, 1, 12, 12), (7, 3, 10, 17), (1, 1, 16, 9)]
every = pytest.mark.parametrize("name", TRANSFORMS)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


def pictures(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@every
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shape_range_and_input_stay_the_same(name: str, shape: tuple[int, ...]) -> None:
    images = pictures(shape)
    before = images.clone()
    out = TRANSFORMS[name](images, stream())
    assert out.shape == images.shape
    assert out.dtype == torch.float32
    assert out.min() >= 0
    assert out.max() <= 1 + 1e-6
    assert torch.equal(images, before)


@every
def test_only_the_stream_decides(name: str) -> None:
    images, transform = pictures(SHAPES[0]), TRANSFORMS[name]
    torch.manual_seed(1)
    first = transform(images, stream(5))
    torch.manual_seed(2)
    assert torch.equal(transform(images, stream(5)), first)
    assert not torch.equal(transform(images, stream(6)), first)
    generator = stream(5)
    transform(images, generator)
    assert not torch.equal(transform(images, generator), first)  # the stream has advanced


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
@pytest.mark.parametrize("name", ["jitter", "rand augment", "trivial augment"])
def test_draws_on_the_host_advance_with_the_stream(name: str, device: str, monkeypatch) -> None:
    """The next microbatch, and the next transform of a list, draw other changes in another order."""
    drawn: list[list] = []

    class RecordedRandom(random.Random):
        def choices(self, population, k):  # type: ignore[no-untyped-def]
            drawn.append(super().choices(population, k=k))
            return drawn[-1]

        def sample(self, population, k):  # type: ignore[no-untyped-def]
            drawn.append(super().sample(population, k=k))
            return drawn[-1]

    monkeypatch.setattr(random, "Random", RecordedRandom)
    images = pictures(SHAPES[0]).to(device)
    for _ in range(2):
        generator = torch.Generator(device).manual_seed(5)
        for _ in range(8):
            TRANSFORMS[name](images, generator)
    first, again = drawn[: len(drawn) // 2], drawn[len(drawn) // 2 :]
    assert first == again, "a pure function of the stream"
    assert len({str(kinds) for kinds in first}) > len(first) // 2


@every
def test_each_picture_has_its_own_draw(name: str) -> None:
    same = pictures((1, 3, 12, 12)).expand(64, -1, -1, -1).contiguous()
    out = TRANSFORMS[name](same, stream())
    kinds = len({picture.numpy().tobytes() for picture in out})
    assert kinds == 2 if "flip" in name else kinds > 20


@every
def test_memory_format_and_autocast_have_no_effect(name: str) -> None:
    """Tasks transform channels-last pictures inside bfloat16 autocast."""
    images, transform = pictures(SHAPES[0]), TRANSFORMS[name]
    expected = transform(images, stream())
    last = transform(images.to(memory_format=torch.channels_last), stream())
    assert torch.allclose(last, expected, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        cast = transform(images, stream())
    assert cast.dtype == torch.float32
    assert torch.equal(cast, expected)


@pytest.mark.parametrize("name", IDLE)
@pytest.mark.parametrize("shape", SHAPES[:2], ids=str)
def test_an_idle_transform_changes_nothing(name: str, shape: tuple[int, ...]) -> None:
    images = pictures(shape)
    assert torch.allclose(IDLE[name](images, stream()), images, atol=1e-5)


@every
@needs_gpu
def test_the_stream_decides_on_a_gpu(name: str) -> None:
    images = pictures(SHAPES[0]).cuda()
    outs = [TRANSFORMS[name](images, torch.Generator("cuda").manual_seed(seed)) for seed in (0, 0, 1)]
    assert outs[0].device.type == "cuda"
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])
