"""Digests of content: equal for equal content alone, stored with the data, and refused where the file is damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.data.digits import Digits
from components.errors import Refusal
from components.storage.content import content_columns, digest_content, read_digests, write_digests
from components.storage.dataset import prepare_dataset
from components.storage.store import Store

IMAGE = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)


def test_the_content_is_the_picture_or_all_but_the_label() -> None:
    assert content_columns(["label", "image", "boxes"]) == ["image"]
    assert content_columns(["target", "source"]) == ["source", "target"]
    assert content_columns(["token", "label"]) == ["token"]


def test_digests_differ_where_content_does() -> None:
    digests = {
        digest_content({"image": image}, ["image"])
        for image in (IMAGE, IMAGE + 1, IMAGE.reshape(3, 2, 2), IMAGE.astype(np.int8), IMAGE[:0])
    }
    assert len(digests) == 5
    assert digest_content({"image": IMAGE.copy(), "label": 3}, ["image"]) in digests
    texts = [("ab", "c"), ("a", "bc"), ("", "")]
    assert len({digest_content({"a": a, "b": b}, ["a", "b"]) for a, b in texts}) == 3


def test_prepared_data_hold_a_digest_of_each_row(tmp_path: Path) -> None:
    prepare_dataset(Digits(100, size=8), tmp_path)
    store = Store(tmp_path)
    for split in ("train", "test"):
        rows = store.split(split).take(np.arange(5))
        expected = [digest_content({"image": image}, ["image"]) for image in rows["image"]]
        assert store.contents(split)[:5].tolist() == expected
        assert len(store.contents(split)) == len(store.split(split))
    (tmp_path / "train-contents.npy").unlink()
    assert store.contents("train") is None


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "contents.npy"
    digests = np.array([2**64 - 1, 0, 2**53 + 1], np.uint64)
    write_digests(file, digests)
    assert np.array_equal(read_digests(file), digests)
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(Refusal, match=r"contents\.npy: damaged"):
        read_digests(file)
    np.save(file, np.zeros(3))
    with pytest.raises(Refusal, match=r"contents\.npy: holds float64\[3\], not digests"):
        read_digests(file)
    for other in (np.zeros(3, np.uint8), np.zeros((3, 1), np.uint64)):
        np.save(file, other)
        with pytest.raises(Refusal, match="not digests"):
            read_digests(file)
