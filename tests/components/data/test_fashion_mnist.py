"""Fashion-MNIST and MNIST: chosen classes and labels from small idx files, and the original files if available."""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from components.data import fashion_mnist as module
from components.data.fashion_mnist import MNIST, FashionMNIST
from components.errors import Refusal
from components.storage.dataset import prepare_dataset
from components.storage.moments import compute_moments
from components.storage.store import Store

REAL = Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write 250 + 100 pictures, each of one grey level that tells its row, and publish their digests."""
    folder = tmp_path / "raw" / "fashion-mnist"
    originals = {}
    folder.mkdir(parents=True)
    for prefix, rows in (("train", 250), ("t10k", 100)):
        labels = np.random.default_rng(rows).permutation(np.arange(rows) % 10).astype(np.uint8)
        images = np.repeat(np.arange(rows, dtype=np.uint8), 784).reshape(rows, 28, 28)
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
            file = folder / f"{prefix}-{kind}-ubyte.gz"
            file.write_bytes(gzip.compress(header + values.tobytes()))
            originals[file.name] = ("", hashlib.md5(file.read_bytes()).hexdigest())
    monkeypatch.setattr(FashionMNIST, "originals", originals)
    monkeypatch.setattr(module, "ROWS_PER_PART", 64)
    return tmp_path / "raw"


def labels_in(raw: Path, prefix: str) -> np.ndarray:
    blob = (raw / "fashion-mnist" / f"{prefix}-labels-idx1-ubyte.gz").read_bytes()
    return np.frombuffer(gzip.decompress(blob)[8:], np.uint8)


def rows_and_labels(data: FashionMNIST, split: str) -> list[tuple[int, int]]:
    parts = data.parts()[split]
    examples = [example for part in range(parts) for example in data.examples(split, part)]
    assert all((example["image"] == example["image"][0, 0]).all() for example in examples)
    return [(int(example["image"][0, 0, 0]), example["label"]) for example in examples]


def test_everything_comes_in_the_files_order(raw: Path) -> None:
    data = FashionMNIST(str(raw))
    assert data.parts() == {"train": 4, "test": 2}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        assert rows_and_labels(data, split) == list(enumerate(labels_in(raw, prefix).tolist()))


def test_some_classes_are_relabelled_in_the_order_given(raw: Path) -> None:
    data = FashionMNIST(str(raw), classes=[9, 0, 4])
    assert data.classes == ["Ankle boot", "T-shirt/top", "Coat"]
    original = labels_in(raw, "train")
    expected = [(row, [9, 0, 4].index(label)) for row, label in enumerate(original.tolist()) if label in (9, 0, 4)]
    assert rows_and_labels(data, "train") == expected


def test_labels_and_validation_are_balanced_and_apart(raw: Path) -> None:
    data = FashionMNIST(str(raw), labels=20, validation=30)
    train, validation = rows_and_labels(data, "train"), rows_and_labels(data, "validation")
    assert np.bincount([label for _, label in train]).tolist() == [2] * 10
    assert np.bincount([label for _, label in validation]).tolist() == [3] * 10
    assert not set(train) & set(validation)
    everything = set(enumerate(labels_in(raw, "train").tolist()))
    assert set(train) | set(validation) <= everything
    assert set(rows_and_labels(FashionMNIST(str(raw), validation=30), "train")) == everything - set(validation)
    assert set(train) != set(rows_and_labels(FashionMNIST(str(raw), labels=20, validation=30, seed=1), "train"))


def test_source_and_target_of_the_flagship_share_nothing(raw: Path) -> None:
    source = FashionMNIST(str(raw), classes=[0, 1, 2, 3, 4, 5], validation=12)
    target = FashionMNIST(str(raw), classes=[6, 7, 8, 9], labels=40)
    rows = [{row for row, _ in rows_and_labels(data, "train")} for data in (source, target)]
    assert not rows[0] & rows[1]
    assert len(rows[1]) == 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": [0, 10]}, "different numbers from 0 to 9"),
        ({"classes": [1, 1]}, "different numbers"),
        ({"classes": []}, "different numbers"),
        ({"labels": 3}, "3 are fewer than the 10 classes"),
    ],
)
def test_impossible_subsets_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(Refusal, match=message):
        FashionMNIST(**arguments)


def test_more_than_there_are_is_refused(raw: Path) -> None:
    with pytest.raises(Refusal, match="labels: 251 are more than the 250"):
        FashionMNIST(str(raw), labels=251).parts()
    with pytest.raises(Refusal, match="validation: 250 of 250 examples leave none to train on"):
        FashionMNIST(str(raw), validation=250).parts()


def test_a_damaged_file_is_refused_before_anything_is_written(raw: Path, tmp_path: Path) -> None:
    file = raw / "fashion-mnist" / "t10k-labels-idx1-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(Refusal, match=r"t10k-labels-idx1-ubyte\.gz: its digest is"):
        prepare_dataset(FashionMNIST(str(raw)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_mnist_differs_in_its_files_and_names_alone() -> None:
    assert MNIST().classes == list("0123456789")
    assert MNIST().columns == FashionMNIST().columns
    assert MNIST.originals.keys() == FashionMNIST.originals.keys()
    facts = [{fact for pair in data.originals.values() for fact in pair} for data in (MNIST, FashionMNIST)]
    assert not facts[0] & facts[1]


@pytest.mark.skipif(not (REAL / "fashion-mnist").is_dir(), reason=f"no original files in {REAL}/fashion-mnist")
def test_the_real_files(tmp_path: Path) -> None:
    manifest = prepare_dataset(FashionMNIST(str(REAL), labels=20_000), tmp_path)
    assert manifest["splits"]["train"]["class_counts"] == dict.fromkeys(FashionMNIST.names, 2000)
    assert manifest["splits"]["test"]["class_counts"] == dict.fromkeys(FashionMNIST.names, 1000)
    statistics = compute_moments(Store(tmp_path).split("train"), 0, 1).finish()
    assert statistics["mean"][0] == pytest.approx(0.2860, abs=0.002)  # of all 60,000, as published
    assert statistics["std"][0] == pytest.approx(0.3530, abs=0.002)
