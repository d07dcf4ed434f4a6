"""Folders of prepared data: splits over several parts, the manifest, and damage that is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.errors import Refusal
from components.storage import dataset as datasets
from components.storage.store import Column, Split, Store, write_part


class Squares:
    """Seven parts of growing length, one of them empty."""

    name, licence, source = "squares", "CC0", "drawn here"

    def __init__(self, names: int = 3) -> None:
        self.classes = ["small", "middle", "größer"][:names]
        self.columns = {"image": Column("uint8", (2, 2, 1)), "label": Column("int64"), "text": Column("utf8")}

    def parts(self) -> dict[str, int]:
        return {"train": 5, "test": 2}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        for i in range(3 * part):
            number = 100 * (split == "test") + 10 * part + i
            yield {"image": np.full((2, 2, 1), number, np.uint8), "label": number % 3, "text": str(number)}


TRAIN = [10 * part + i for part in range(5) for i in range(3 * part)]


def test_a_split_is_its_parts_one_after_the_other(tmp_path: Path) -> None:
    datasets.prepare_dataset(Squares(), tmp_path)
    split = Store(tmp_path).split("train")
    assert len(split) == 30
    rows = np.array([29, 0, 5, 5, 14, 3])
    batch = split.take(rows)
    assert batch["text"] == [str(TRAIN[row]) for row in rows]
    assert batch["image"][:, 0, 0, 0].tolist() == [TRAIN[row] for row in rows]
    assert split.take(rows, ["label"]).keys() == {"label"}
    assert split.array("image").shape == (30, 2, 2, 1)
    assert split.array("image")[:, 0, 0, 0].tolist() == TRAIN
    assert {name: len(values) for name, values in split.take(np.arange(0)).items()} == dict.fromkeys(split.columns, 0)
    for wrong in ([30], [-1]):
        with pytest.raises(IndexError):
            split.take(np.array(wrong))
    with pytest.raises(Refusal, match="without a fixed shape"):
        split.array("text")


def test_the_manifest_describes_the_parts(tmp_path: Path) -> None:
    manifest = datasets.prepare_dataset(Squares(), tmp_path)
    assert manifest == Store(tmp_path).manifest == json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["columns"]["image"] == {"dtype": "uint8", "shape": [2, 2, 1]}
    assert (manifest["name"], manifest["licence"], manifest["source"]) == ("squares", "CC0", "drawn here")
    train = manifest["splits"]["train"]
    assert train["rows"] == 30
    counted = [sum(number % 3 == label for number in TRAIN) for label in range(3)]
    assert train["class_counts"] == dict(zip(["small", "middle", "größer"], counted, strict=True))
    assert [part["file"] for part in train["parts"]] == [f"train-00{i}.arrow" for i in range(5)]
    Store(tmp_path).verify()


def test_the_bytes_do_not_depend_on_the_order_of_the_jobs(tmp_path: Path) -> None:
    datasets.prepare_dataset(Squares(), tmp_path / "in-order")
    jobs = datasets.list_jobs(Squares())
    done = [(job, datasets.write_job(Squares(), tmp_path / "shuffled", *job)) for job in jobs[::-2] + jobs[-2::-2]]
    datasets.finish_dataset(Squares(), tmp_path / "shuffled", done)
    files = sorted(file.name for file in (tmp_path / "in-order").iterdir())
    assert len(files) == 10
    for name in files:
        assert (tmp_path / "in-order" / name).read_bytes() == (tmp_path / "shuffled" / name).read_bytes()


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    class Others(Squares):
        def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
            return ({**example, "text": example["text"] + "!"} for example in super().examples(split, part))

    digests = [
        datasets.prepare_dataset(data, tmp_path / str(i))["digest"] for i, data in enumerate((Squares(), Others()))
    ]
    assert digests[0] != digests[1]


def test_labels_without_a_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="labels 0 to 2, but 2 classes are named"):
        datasets.prepare_dataset(Squares(names=2), tmp_path)
    assert not (tmp_path / "manifest.json").exists()


def test_extra_stores_follow(tmp_path: Path) -> None:
    for name in ("own", "extra"):
        datasets.prepare_dataset(Squares(), tmp_path / name)
    split = Store(tmp_path / "own").split("train", extra=[tmp_path / "extra"])
    assert split.take(np.arange(60))["text"] == [str(n) for n in TRAIN + TRAIN]


def test_parts_with_other_columns_are_refused(tmp_path: Path) -> None:
    datasets.prepare_dataset(Squares(), tmp_path)
    write_part(tmp_path / "other.arrow", {"image": Column("uint8", (4, 4, 1))}, [])
    with pytest.raises(Refusal, match=r"other\.arrow: column 'image' is uint8\[4, 4, 1\], but uint8\[2, 2, 1\]"):
        Split([tmp_path / "train-000.arrow", tmp_path / "other.arrow"])


def test_what_is_missing_or_damaged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="no such folder of prepared data; run the prepare stage"):
        Store(tmp_path / "none")
    with pytest.raises(Refusal, match=r"contains no manifest\.json"):
        Store(tmp_path)
    datasets.prepare_dataset(Squares(), tmp_path)
    with pytest.raises(Refusal, match=r"no split 'tests' \(did you mean 'test'\?\); it has: train, test"):
        Store(tmp_path).split("tests")

    part = tmp_path / "train-003.arrow"
    intact = part.read_bytes()
    flipped = bytearray(intact)
    flipped[len(intact) // 2] ^= 1
    part.write_bytes(flipped)
    with pytest.raises(Refusal, match=r"train-003\.arrow: SHA-256 is"):
        Store(tmp_path).verify()
    part.write_bytes(intact[:-8])
    with pytest.raises(Refusal, match=r"train-003\.arrow: has \d+ bytes, the manifest says"):
        Store(tmp_path).split("train")
    part.unlink()
    with pytest.raises(Refusal, match=r"train-003\.arrow: this part of split 'train' is missing"):
        Store(tmp_path).split("train")
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(Refusal, match="not a valid manifest"):
        Store(tmp_path).split("train")


@pytest.mark.parametrize("file", ["../secret.arrow", "/etc/passwd", "..", "", "a/b.arrow", 7])
def test_a_part_must_be_a_file_of_its_folder(tmp_path: Path, file: Any) -> None:
    manifest = datasets.prepare_dataset(Squares(), tmp_path)
    manifest["splits"]["test"]["parts"][0]["file"] = file
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(Refusal, match=r"manifest\.json: not a valid manifest \("):
        Store(tmp_path).split("train")


@pytest.mark.parametrize(
    "text", ["[" * 9999, "[]", "7", '{"splits": {}}', '{"columns": [], "splits": {"train": 1}}', "\0"]
)
def test_a_manifest_of_another_structure_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(Refusal, match=r"manifest\.json: not a valid manifest"):
        _ = Store(tmp_path).manifest


def test_verify_counts_the_rows(tmp_path: Path) -> None:
    manifest = datasets.prepare_dataset(Squares(), tmp_path)
    Store(tmp_path).verify()
    manifest["splits"]["train"]["parts"][2]["rows"] += 1
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(Refusal, match=r"train-002\.arrow: has 6 rows, the manifest says 7"):
        Store(tmp_path).verify()
