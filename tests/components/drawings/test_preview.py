"""The preview shows one example per class beside what training makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import find_objects, label

from components.augment.crop import RandomResizedCrop
from components.augment.flip import RandomHorizontalFlip
from components.drawings import preview
from components.drawings.preview import draw_preview
from components.storage.dataset import prepare_dataset
from components.storage.store import Store
from tests.components.augment.test_copies import Pictures


@pytest.fixture
def store(tmp_path: Path) -> Store:
    prepare_dataset(Pictures(), tmp_path / "prepared")
    return Store(tmp_path / "prepared")


def cells_of(shown: np.ndarray, shape: tuple[int, int]) -> list[np.ndarray]:
    """Return the pictures that white gaps surround, row by row, each reduced to `shape` [height, width]."""
    pieces = [box for box in find_objects(label((shown < 255).any(2))[0]) if box[0].stop - box[0].start > 40]
    pieces.sort(key=lambda box: (box[0].start // 20, box[1].start))
    cells = []
    for rows, columns in pieces:
        y, x = (
            np.floor(side.start + (np.arange(n) + 0.5) * (side.stop - side.start) / n).astype(int)
            for side, n in zip((rows, columns), shape, strict=True)
        )
        cells.append(shown[np.ix_(y, x)])
    return cells


def test_originals_are_beside_what_training_sees(store: Store, tmp_path: Path) -> None:
    paths = [tmp_path / "a" / "preview.png", tmp_path / "b.png"]
    for path in paths:
        draw_preview(path, store, [RandomHorizontalFlip(1.0)], seed=0)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    shown = np.asarray(Image.open(paths[0]).convert("RGB")).astype(int)
    assert shown.shape[1] == 800
    split = store.split("train")
    examples = split.take(np.arange(395), ["image", "label"])
    cells = cells_of(shown, (6, 5))
    assert len(cells) == 100
    for row, kind in enumerate(preview._pick_one_per_class(np.arange(12))):
        original = examples["image"][examples["label"].tolist().index(kind)]
        for column in range(10):
            assert np.array_equal(cells[10 * row + column], original[:, ::-1] if column else original)


def test_a_transform_may_change_the_size(store: Store, tmp_path: Path) -> None:
    draw_preview(tmp_path / "a.png", store, [RandomResizedCrop(size=9)], seed=0)
    shown = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    assert len(cells_of(shown, (9, 9))) == 100


def test_ten_classes_are_spread_evenly() -> None:
    labels = np.repeat(np.arange(36), 4)[::-1]
    rows = preview._pick_one_per_class(labels)
    assert labels[rows].tolist() == [0, 4, 8, 12, 16, 19, 23, 27, 31, 35]
    assert preview._pick_one_per_class(np.array([1, 0, 1])).tolist() == [1, 0]
