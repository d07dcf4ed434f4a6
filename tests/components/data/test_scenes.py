"""Scenes: disjoint handwriting, tight boxes, reproducible scenes."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from sklearn.datasets import load_digits

from components.data import scenes as module
from components.data.masks import trace_boxes
from components.data.scenes import MIN_VISIBLE, TOUCHING, Composition, Scenes, compose_scene
from components.errors import Refusal
from components.storage.dataset import prepare_dataset
from components.storage.store import Store


def all_of(data: Scenes, split: str) -> list[dict]:
    return [example for part in range(data.parts()[split]) for example in data.examples(split, part)]


def test_splits_have_the_requested_sizes_and_one_to_five_digits_per_scene() -> None:
    data = Scenes(count=120, validation=10, test=60)
    assert data.parts() == {"train": 3, "validation": 1, "test": 2}
    assert Scenes(count=1).parts() == {"train": 1, "test": 4}
    examples = {split: all_of(data, split) for split in data.parts()}
    assert {split: len(rows) for split, rows in examples.items()} == {"train": 120, "validation": 10, "test": 60}
    for example in examples["train"]:
        assert example["image"].shape == (64, 64, 1)
        assert example["image"].dtype == np.uint8
        assert 1 <= len(example["boxes"]) == len(example["labels"]) <= 5
        boxes = example["boxes"]
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] <= 64).all()
        assert ((boxes[:, 2:] - boxes[:, :2]).max(1) >= 6).all()
    assert {len(example["boxes"]) for example in examples["train"]} == {1, 2, 3, 4, 5}
    assert set(np.concatenate([example["labels"] for example in examples["train"]])) == set(range(10))


def test_no_handwriting_is_in_two_splits() -> None:
    rows = Scenes().handwriting
    together = np.concatenate(list(rows.values()))
    assert sorted(together) == list(range(1797))
    assert {split: len(own) for split, own in rows.items()} == {"train": 1078, "validation": 270, "test": 449}


def test_scenes_are_composed_of_their_splits_own_handwriting(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = load_digits().images
    numbers = {digit.tobytes(): {row for row in range(1797) if (levels[row] == digit).all()} for digit in levels}
    used: list[set[int]] = []

    def record(digits: np.ndarray, composition: Composition, random: np.random.Generator) -> tuple:
        used.extend(numbers[np.ascontiguousarray(digit).tobytes()] for digit in digits)
        return compose_scene(digits, composition, random)

    monkeypatch.setattr(module, "compose_scene", record)
    data = Scenes(count=40, test=40)
    for split in data.parts():
        used.clear()
        all_of(data, split)
        assert len(used) > 60
        assert all(rows & set(data.handwriting[split].tolist()) for rows in used)


def test_boxes_are_tight_around_the_ink() -> None:
    """Check on a ground without texture or noise, where brighter pixels are ink."""
    digit, random = load_digits().images[:1], np.random.default_rng(1)
    flat = pytest.MonkeyPatch()
    flat.setattr(module, "UNEVENNESS", 0.0)
    flat.setattr(module, "NOISE", 0.0)
    image, instances, placed = compose_scene(digit, Composition(64, (13, 32)), random)
    boxes = trace_boxes(instances, 1)
    flat.undo()
    assert placed.tolist() == [0]
    ink = image[..., 0].astype(float) - image.min()
    rows, columns = (np.flatnonzero((ink > 0.35 * ink.max()).any(axis)) for axis in (1, 0))
    assert np.abs(boxes[0] - [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).max() <= 1


def test_digits_hardly_overlap() -> None:
    for example in all_of(Scenes(count=100), "train"):
        boxes = example["boxes"]
        shared = np.maximum(
            0, np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - np.maximum(boxes[:, None, :2], boxes[None, :, :2])
        ).prod(-1)
        area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
        share = shared / np.minimum(area[:, None], area[None])
        assert (share[~np.eye(len(boxes), dtype=bool)] <= TOUCHING + 1e-6).all()


def test_a_scene_is_a_function_of_seed_and_row() -> None:
    short, long, other = Scenes(count=60), Scenes(count=160), Scenes(count=60, seed=1)
    for first, second in zip(all_of(short, "train"), all_of(long, "train"), strict=False):
        assert all(np.array_equal(first[name], second[name]) for name in first)
    assert not np.array_equal(all_of(short, "train")[0]["image"], all_of(other, "train")[0]["image"])
    assert not np.array_equal(all_of(short, "train")[0]["image"], all_of(short, "test")[0]["image"])


def test_scenes_are_stored_and_read_back(tmp_path) -> None:
    data = Scenes(count=60, test=5, size=48)
    prepare_dataset(data, tmp_path)
    stored = Store(tmp_path).split("train").take(np.arange(60))
    for row, example in enumerate(all_of(data, "train")):
        assert np.array_equal(stored["image"][row], example["image"])
        assert np.array_equal(stored["boxes"][row], example["boxes"])
        assert np.array_equal(stored["labels"][row], example["labels"])


CROWDED = {"most": 10, "size": 96, "smallest": 0.12, "largest": 0.6, "overlap": 0.4, "clutter": 4, "masks": True}


def test_masks_follow_the_boxes_and_labels() -> None:
    """Recompute boxes and classes from the index map, pixel by pixel, in scenes whose digits hide each other."""
    data = Scenes(count=40, test=1, **CROWDED)
    assert {name: str(column) for name, column in data.columns.items()} == {
        "image": "uint8[96, 96, 1]",
        "boxes": "float32[*, 4]",
        "labels": "int64[*]",
        "instances": "int16[96, 96]",
        "mask": "uint8[96, 96]",
    }
    for example in all_of(data, "train"):
        instances, mask = example["instances"], example["mask"]
        assert set(np.unique(instances)) == set(range(len(example["boxes"]) + 1))
        assert np.array_equal(mask == 0, instances == 0)
        for number, (box, label) in enumerate(zip(example["boxes"], example["labels"], strict=True), 1):
            rows, columns = np.nonzero(instances == number)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert (mask[instances == number] == label + 1).all()


def test_digits_overlap_vary_in_size_and_stay_visible() -> None:
    boxes = [example["boxes"] for example in all_of(Scenes(count=60, test=1, **CROWDED), "train")]
    heights = np.concatenate([box[:, 3] - box[:, 1] for box in boxes])
    assert heights.min() < 14
    assert heights.max() > 40
    shared = 0
    for box in boxes:
        corners = np.maximum(box[:, None, :2], box[None, :, :2]), np.minimum(box[:, None, 2:], box[None, :, 2:])
        shared += int(np.triu((corners[1] > corners[0]).all(2), 1).sum())
    assert shared > 60


def test_later_ink_hides_earlier_ink_but_not_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UNEVENNESS", "NOISE"):
        monkeypatch.setattr(module, name, 0.0)
    monkeypatch.setattr(module, "INK", (100, 100))
    digits = load_digits().images[:30]
    composition = Composition(64, (30, 32), overlap=0.9)
    for seed in range(5):
        image, instances, placed = compose_scene(digits, composition, np.random.default_rng(seed))
        assert len(placed) > 3
        assert int(image.max()) - int(image.min()) <= 101  # never twice the ink
        alone = compose_scene(digits[:1], composition, np.random.default_rng(seed))[1]
        assert (alone == 1).sum() > (instances == 1).sum() >= MIN_VISIBLE * (alone == 1).sum()


def test_clutter_is_behind_the_digits_and_changes_no_annotation_rule() -> None:
    plain, cluttered = (all_of(Scenes(count=30, test=1, clutter=clutter), "train") for clutter in (0, 6))
    edges = [
        np.mean([np.abs(np.diff(e["image"].astype(int), axis=0)).mean() for e in rows]) for rows in (plain, cluttered)
    ]
    assert edges[1] > 1.1 * edges[0]
    assert [len(e["boxes"]) for e in cluttered] != [0] * 30


def test_default_scenes_are_those_of_earlier_versions() -> None:
    """Compare with scenes from before they had masks, on which the figures of recipes rest.

    Pictures are compared by their statistics: the processor's matrix product decides single grey levels.
    """
    digest, statistics = hashlib.sha256(), []
    for split in ("train", "test"):
        examples = list(all_of(Scenes(count=100, test=50), split))
        for name in ("boxes", "labels"):
            digest.update(b"".join(example[name].tobytes() for example in examples))
        images = np.stack([example["image"] for example in examples]).astype(float)
        statistics += [images.mean(), images.std()]
    assert digest.hexdigest()[:16] == "8ae66634be549efa"
    assert statistics == pytest.approx([64.69354, 36.67702, 68.33399, 36.92033], abs=1e-3)


def test_scenes_too_small_to_read_are_refused() -> None:
    with pytest.raises(Refusal, match="give at least 40"):
        Scenes(size=39)
    with pytest.raises(Refusal, match=r"smallest: 0.6 is more than largest, 0.5"):
        Scenes(smallest=0.6)
