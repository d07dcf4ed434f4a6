"""Examples of the same content in two splits or with two labels: counted, named, and refused, dropped or kept."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.errors import Refusal
from components.storage.dataset import prepare_dataset
from components.storage.store import Column, Store
from components.training.peers import Peers, fork_workers
from pipelines.workers import preparation

SPLITS = {  # split -> parts of (content, label); 3 is in two splits, 5 in three, 9 and 8 have two labels, 1 is repeated
    "train": [[(1, 0), (3, 0), (1, 0)], [(5, 1), (9, 0), (8, 0), (8, 1)]],
    "validation": [[(5, 1), (6, 1)]],
    "test": [[(3, 0), (4, 0)], [(5, 1), (9, 1)]],
}


class Numbers:
    """Pictures of one grey level."""

    name, licence, source = "numbers", "CC0", "drawn here"
    classes = ("low", "high")

    def __init__(self, **policies: str) -> None:
        self.columns = {"image": Column("uint8", (2, 2, 1)), "label": Column("int64")}
        for name, policy in policies.items():
            setattr(self, name, policy)

    def parts(self) -> dict[str, int]:
        return {split: len(parts) for split, parts in SPLITS.items()}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        for level, label in SPLITS[split][part]:
            yield {"image": np.full((2, 2, 1), level, np.uint8), "label": label}


def contents(folder: Path) -> dict[str, list[tuple[int, int]]]:
    """Return {split: (level, label) of its rows}."""
    store = Store(folder)
    rows = {split: store.split(split) for split in SPLITS}
    return {
        name: list(zip(split.array("image")[:, 0, 0, 0].tolist(), split.array("label").tolist(), strict=True))
        for name, split in rows.items()
    }


def test_by_default_all_are_kept_counted_and_named(tmp_path: Path) -> None:
    manifest = prepare_dataset(Numbers(), tmp_path)
    assert contents(tmp_path) == {split: [*chain(*parts)] for split, parts in SPLITS.items()}
    conflicts, duplicates = (next(s for s in manifest["review"] if word in s) for word in ("labels", "another split"))
    assert conflicts.startswith("4 examples have the same content but different labels: ")
    assert "test row 3 (high) = train row 4 (low)" in conflicts
    assert conflicts.endswith("; kept")
    assert duplicates.startswith("4 examples have the same content as one of another split: ")
    assert "test row 0 (low) = train row 1 (low)" in duplicates


def test_dropped_examples_leave_the_held_out_copy_and_no_conflict(tmp_path: Path) -> None:
    manifest = prepare_dataset(Numbers(duplicates="drop", conflicts="drop"), tmp_path / "alone")
    expected = {"train": [(1, 0), (1, 0)], "validation": [(6, 1)], "test": [(3, 0), (4, 0), (5, 1)]}
    assert contents(tmp_path / "alone") == expected
    assert [entry["rows"] for entry in manifest["splits"].values()] == [2, 1, 3]
    assert any(sentence.startswith("3 examples") and sentence.endswith("; dropped") for sentence in manifest["review"])
    Store(tmp_path / "alone").verify()
    assert len(Store(tmp_path / "alone").contents("train")) == 2
    fork_workers(prepare_numbers, 2, tmp_path / "shared")
    for file in (tmp_path / "alone").iterdir():
        assert (tmp_path / "shared" / file.name).read_bytes() == file.read_bytes()


def prepare_numbers(peers: Peers, folder: Path) -> None:
    rows = preparation.write_data_set(peers, Numbers(duplicates="drop", conflicts="drop"), folder)
    assert rows == {"train": 2, "validation": 1, "test": 3}


@pytest.mark.parametrize(
    ("policies", "message"),
    [
        (
            {"duplicates": "refuse"},
            "numbers: 4 examples have the same content as one of another split: .*duplicates: drop",
        ),
        ({"conflicts": "refuse"}, "numbers: 4 examples have the same content but different labels: .*conflicts: drop"),
    ],
)
def test_refused_data_leave_no_manifest(tmp_path: Path, policies: dict[str, str], message: str) -> None:
    with pytest.raises(Refusal, match=message) as refusal:
        prepare_dataset(Numbers(**policies), tmp_path)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "manifest.json").exists()
