"""Run the workers of prepare and augment: one and two write the same bytes, and training finds what it needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.data.glyphs import build_atlas
from components.errors import Refusal
from components.storage.store import Store
from components.training.peers import Peers, fork_workers
from pipelines.workers import augmentation, preparation, training

SECTIONS = {
    "source": {"use": "data.glyphs.Glyphs", "per_class": 8, "validation": 2, "size": 8},
    "target": {"use": "data.digits.Digits", "labels": 30, "size": 8},
}
TURNED = [{"use": "augment.affine.RandomAffine", "degrees": 20}]
OFFLINE = {"copies": 2, "transforms": TURNED}
ONLINE: dict[str, list[dict[str, Any]]] = {"source": TURNED, "target": []}


def prepare_and_augment(peers: Peers, folder: Path, offline: dict[str, Any] = OFFLINE) -> None:
    prepared = str(folder / "prepared")
    rows = preparation.write_data_sets(peers, {f"{prepared}/{role}": section for role, section in SECTIONS.items()})
    assert rows == {
        f"{prepared}/source": {"train": 288, "validation": 72},
        f"{prepared}/target": {"train": 30, "test": 1767},
    }
    done = augmentation.write_augmented(peers, prepared, str(folder / "augmented"), offline, ONLINE, 0)
    assert done == {
        "source": {"examples": 288, "derived": 288 * offline["copies"]},
        "target": {"examples": 30, "derived": 0},
    }


def read_files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    build_atlas()  # drawn before the workers are forked
    fork_workers(prepare_and_augment, 1, folder)
    return folder


def test_two_workers_write_the_same_bytes(written: Path, tmp_path: Path) -> None:
    fork_workers(prepare_and_augment, 2, tmp_path)
    expected = read_files(written)
    # manifests, parts, digests of content, statistics and previews, copies
    assert len(expected) == 2 * 1 + 2 + 2 + 2 * 2 + 2 * 2 + 4
    assert read_files(tmp_path) == expected


def test_training_finds_the_copies_behind_the_originals(written: Path) -> None:
    feed = training.train_feed(f"{written}/prepared/source", f"{written}/augmented/source")
    assert len(feed) == 3 * 288
    assert np.array_equal(feed.column("label"), np.tile(np.arange(288) % 36, 3))
    assert len(training.train_feed(f"{written}/prepared/target", f"{written}/augmented/target")) == 30


def test_spec_has_the_statistics_of_the_originals(written: Path) -> None:
    spec = training.read_spec(f"{written}/prepared/source", f"{written}/augmented/source")
    images = Store(written / "prepared" / "source").split("train").array("image") / 255
    assert spec.statistics == json.loads((written / "augmented/source/statistics.json").read_text())
    assert spec.statistics["mean"] == pytest.approx([images.mean()])
    assert spec.statistics["std"] == pytest.approx([images.std()])
    assert spec.columns["image"] == (8, 8, 1)
    assert len(spec.classes) == 36


def test_without_copies_there_is_no_manifest(tmp_path: Path) -> None:
    prepare_and_augment(Peers(), tmp_path, {"copies": 0, "transforms": []})
    names = {path.name for path in (tmp_path / "augmented" / "source").iterdir()}
    assert names == {"statistics.json", "preview.png"}


def test_transforms_that_change_the_size_are_refused_as_copies(written: Path) -> None:
    cropped = {"copies": 1, "transforms": [{"use": "augment.crop.RandomResizedCrop", "size": 5}]}
    with pytest.raises(Refusal, match=r"column 'image' must be uint8\[8, 8, 1\], not uint8\[5, 5, 1\]"):
        augmentation.write_augmented(Peers(), f"{written}/prepared", f"{written}/refused", cropped, ONLINE, 0)
