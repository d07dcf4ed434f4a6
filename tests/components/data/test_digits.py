"""scikit-learn's digits: the same pictures, resized as torch does it, split without overlap."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from components.data.digits import Digits, bilinear_matrix, resize_digits
from components.errors import Refusal


def labels_of(data: Digits, split: str) -> np.ndarray:
    return np.array([example["label"] for example in data.examples(split, 0)])


@pytest.mark.parametrize("size", [8, 16, 28, 31])
def test_enlarging_is_bilinear_interpolation(size: int) -> None:
    levels = load_digits().images[:50]
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(levels * 255 / 16)[:, None], (size, size), mode="bilinear", align_corners=False
    )
    assert np.abs(resize_digits(levels, size)[..., 0] - expected[:, 0].numpy()).max() <= 0.5 + 1e-3
    assert np.allclose(bilinear_matrix(8, size).sum(1), 1)


def test_nothing_is_lost_and_nothing_is_in_both_splits() -> None:
    data = Digits(labels=100, size=8)
    levels, targets = load_digits(return_X_y=True)
    pairs: dict[str, list] = {}
    for split in data.parts():
        pairs[split] = [(e["image"].tobytes(), e["label"]) for e in data.examples(split, 0)]
    assert {split: len(rows) for split, rows in pairs.items()} == {"train": 100, "test": 1697}
    images = np.rint(levels * 255 / 16).astype(np.uint8)
    everything = [(image.tobytes(), int(label)) for image, label in zip(images, targets, strict=True)]
    assert sorted(pairs["train"] + pairs["test"]) == sorted(everything)


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


def test_on_a_canvas_each_digit_is_complete_and_anywhere() -> None:
    plain, placed = Digits(labels=400, size=8), Digits(labels=400, size=8, canvas=11)
    for split in plain.parts():
        corners = set()
        for digit, canvas in zip(plain.examples(split, 0), placed.examples(split, 0), strict=True):
            assert digit["label"] == canvas["label"]
            windows = np.lib.stride_tricks.sliding_window_view(canvas["image"][..., 0], (8, 8))
            places = np.argwhere((windows == digit["image"][..., 0]).all((2, 3)))
            assert len(places) >= 1
            assert canvas["image"].sum() == digit["image"].sum()
            if len(places) == 1:
                corners.add(tuple(places[0]))
        assert corners == set(np.ndindex(4, 4))
    again = Digits(labels=400, size=8, canvas=11)
    assert all(
        np.array_equal(a["image"], b["image"])
        for a, b in zip(*(d.examples("test", 0) for d in (placed, again)), strict=True)
    )


def test_a_canvas_too_small_is_refused() -> None:
    with pytest.raises(Refusal, match="canvas: digits of size 16 do not fit into 12; give at least 16"):
        Digits(size=16, canvas=12)
