"""Copies of pictures are pure functions of the data, the transforms and the seed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.augment import copies
from components.augment.affine import RandomAffine
from components.augment.copies import Copies, apply_transforms
from components.augment.flip import RandomHorizontalFlip
from components.augment.jitter import ColorJitter
from components.augment.mix import CutMix, MixUp
from components.errors import Refusal
from components.storage import dataset as datasets
from components.storage.store import Column, Store


class Pictures:
    """A data set with three parts of random colour pictures, and a column of text."""

    name, licence, source, classes = "pictures", "CC0", "drawn here", [f"class {i}" for i in range(12)]
    columns = {"image": Column("uint8", (6, 5, 3)), "label": Column("int64"), "text": Column("utf8")}  # noqa: RUF012

    def __init__(self, sizes: tuple[int, ...] = (300, 5, 90)) -> None:
        self.sizes = sizes

    def parts(self) -> dict[str, int]:
        return {"train": len(self.sizes)}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        random = np.random.default_rng(part)
        for i in range(self.sizes[part]):
            image = (random.random((6, 5, 3)) ** [1, 2, 3] * 255).astype(np.uint8)
            yield {"image": image, "label": int(random.integers(12)), "text": f"{part}.{i}"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    datasets.prepare_dataset(Pictures(), tmp_path / "prepared")
    return Store(tmp_path / "prepared")


def transforms() -> list[copies.Transform]:
    return [RandomAffine(degrees=20), ColorJitter(brightness=0.3)]


def test_copies_change_pictures_and_no_other_column(store: Store, tmp_path: Path) -> None:
    split = store.split("train")
    derived_set = Copies(store, transforms(), copies=2, seed=0)
    assert derived_set.parts() == {"train": 6}
    manifest = datasets.prepare_dataset(derived_set, tmp_path / "copies")
    assert manifest["splits"]["train"]["rows"] == 2 * 395
    derived = Store(tmp_path / "copies").split("train").take(np.arange(790))
    originals = split.take(np.arange(395))
    assert derived["text"] == originals["text"] * 2
    assert np.array_equal(derived["label"], np.tile(originals["label"], 2))
    first, second = derived["image"][:395], derived["image"][395:]
    assert (first != second).any((1, 2, 3)).mean() > 0.99
    assert (first != originals["image"]).any((1, 2, 3)).mean() > 0.99
    both = store.split("train", extra=[tmp_path / "copies"])
    assert len(both) == 3 * 395


def test_a_part_of_copies_is_a_pure_function_of_seed_and_number(store: Store) -> None:
    def images(seed: int, part: int) -> np.ndarray:
        return np.stack([e["image"] for e in Copies(store, transforms(), 2, seed).examples("train", part)])

    assert np.array_equal(images(0, 3), images(0, 3))
    assert not np.array_equal(images(0, 0), images(0, 3))
    assert not np.array_equal(images(0, 0), images(1, 0))


def test_an_empty_list_of_transforms_copies_bytes(store: Store) -> None:
    images = store.split("train").array("image")
    assert np.array_equal(apply_transforms(images, [], torch.Generator()), images)
    always = apply_transforms(images, [RandomHorizontalFlip(1.0)], torch.Generator())
    assert np.array_equal(always, images[:, :, ::-1])


def test_transforms_may_mix_pairs(store: Store) -> None:
    images = store.split("train").take(np.arange(6))["image"]
    shown = apply_transforms(images, [CutMix()], torch.Generator().manual_seed(0))
    assert not np.array_equal(shown, images)
    assert ((shown == images) | (shown == np.roll(images, 1, axis=0))).all()


@pytest.mark.parametrize("mix", [MixUp(), CutMix()])
def test_copies_of_mixed_pairs_are_refused(store: Store, mix: copies.Transform) -> None:
    """A copy has the label of one picture."""
    with pytest.raises(Refusal, match=r"^augment.transforms: (MixUp|CutMix) mixes labels, .*; use task.mix instead$"):
        next(Copies(store, [*transforms(), mix], 1, 0).examples("train", 0))
