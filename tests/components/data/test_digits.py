"""scikit-learn's digits: the same pictures, enlarged as torch does it, split without overlap."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from components.data.digits import Digits, bilinear, enlarged
from components.refusal import Refusal


def labels_of(data: Digits, split: str) -> np.ndarray:
    return np.array([example["label"] for example in data.examples(split, 0)])


@pytest.mark.parametrize("size", [8, 16, 28, 31])
def test_enlarging_is_bilinear_interpolation(size: int) -> None:
    levels = load_digits().images[:50]
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(levels * 255 / 16)[:, None], (size, size), mode="bilinear", align_corners=False
    )
    assert np.abs(enlarged(levels, size)[..., 0] - wanted[:, 0].numpy()).max() <= 0.5 + 1e-3
    assert np.allclose(bilinear(8, size).sum(1), 1)


def test_nothing_is_lost_and_nothing_is_in_both_splits() -> None:
    data = Digits(labels=100, size=8)
    levels, targets = load_digits(return_X_y=True)
    found: dict[str, list] = {}
    for split in data.parts():
        found[split] = [(e["image"].tobytes(), e["label"]) for e in data.examples(split, 0)]
    assert {split: len(pairs) for split, pairs in found.items()} == {"train": 100, "test": 1697}
    images = np.rint(levels * 255 / 16).astype(np.uint8)
    everything = [(image.tobytes(), int(label)) for image, label in zip(images, targets, strict=True)]
    assert sorted(found["train"] + found["test"]) == sorted(everything)


def test_labels_are_balanced_nested_and_drawn_by_seed() -> None:
    assert np.bincount(labels_of(Digits(labels=100), "train")).tolist() == [10] * 10
    draws = [Digits(labels=50), Digits(labels=100), Digits(labels=100, seed=1)]
    sets = [{example["image"].tobytes() for example in data.examples("train", 0)} for data in draws]
    assert sets[0] <= sets[1]
    assert len(sets[1] & sets[2]) < 30


@pytest.mark.parametrize("labels", [9, 1797])
def test_impossible_numbers_of_labels_are_refused(labels: int) -> None:
    with pytest.raises(Refusal, match="give 10 to 1796"):
        Digits(labels=labels)
