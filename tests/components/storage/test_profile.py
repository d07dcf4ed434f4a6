"""Profiles of pictures: their summaries against NumPy, and the same counts for any number of workers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from components.data.digits import Digits
from components.storage.dataset import prepare_dataset
from components.storage.profile import compute_profile, summarize_images
from components.storage.store import Store


def test_summaries_are_the_pictures_moments() -> None:
    images = np.random.default_rng(0).integers(0, 256, (7, 6, 5, 3), dtype=np.uint8)
    summaries = summarize_images(images)
    flat = images.reshape(7, -1).astype(float)
    steps = np.abs(np.diff(images.astype(float), axis=2)).reshape(7, -1)
    assert summaries["brightness"].tolist() == np.rint(flat.mean(1)).tolist()
    assert summaries["contrast"].tolist() == np.rint(2 * flat.std(1)).tolist()
    assert summaries["detail"].tolist() == np.minimum(255, np.rint(2 * steps.mean(1))).tolist()


def test_a_profile_is_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    prepare_dataset(Digits(labels=600, size=8), tmp_path)
    split = Store(tmp_path).split("train")
    merged = compute_profile(split, 0, 2).merge(compute_profile(split, 1, 2)).finish()
    assert merged == compute_profile(split).finish()
    assert sum(merged["label"].values()) == sum(merged["contrast"].values()) == 600
