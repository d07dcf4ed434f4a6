"""From the file to shards: the right rows in the right order, on any number of workers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from components.errors import Refusal
from components.storage.feed import Feed
from components.storage.store import Column, Split, write_part

devices = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"))]


@pytest.fixture
def split(tmp_path: Path) -> Split:
    columns = {"x": Column("float32", (2,)), "label": Column("int64"), "text": Column("utf8")}
    for part in range(2):
        rows = range(40 * part, 40 * part + 40)
        examples = ({"x": np.float32([row, -row]), "label": row, "text": f"row {row}"} for row in rows)
        write_part(tmp_path / f"{part}.arrow", columns, examples, rows_per_batch=16)
    return Split([tmp_path / "0.arrow", tmp_path / "1.arrow"])


@pytest.mark.parametrize("resident", [0, 1 << 30])
@pytest.mark.parametrize("device", devices)
def test_shards_are_the_batch_in_order(split: Split, device: str, resident: int) -> None:
    rows = np.arange(5, 75)
    feed = Feed(split, rows, torch.device(device), resident)
    order = feed.order(batch=20, seed=3)
    for workers in ([range(0, 3)], [range(0, 1), range(1, 3)]):
        walks = [feed.walk(batch=20, seed=3, shards=3, own_shards=own_shards) for own_shards in workers]
        for step in (0, 1, 2, 7):
            expected = rows[order.indices(step)].tolist()
            labels: list[int] = []
            for walk in walks:
                batches, sizes = walk.at(step)
                assert sizes == [7, 7, 6]
                assert [len(batch["label"]) for batch in batches] == [sizes[i] for i in walk.own_shards]
                for batch in batches:
                    assert batch["x"].device.type == device
                    assert batch["x"][:, 0].tolist() == batch["label"].tolist()
                    assert list(batch["text"]) == [f"row {row}" for row in batch["label"].tolist()]
                    labels += batch["label"].tolist()
            assert labels == walks[0].rows(step).tolist() == expected


@pytest.mark.parametrize("device", devices)
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_batches_cover_all_rows_once(split: Split, device: str, workers: int) -> None:
    feed = Feed(split, np.arange(79, 2, -1), torch.device(device))
    parts = {}
    for rank in range(workers):
        for number, batch in enumerate(feed.batches(10, rank, workers)):
            parts[rank + number * workers] = batch["label"].tolist()
    assert [row for number in sorted(parts) for row in parts[number]] == list(range(79, 2, -1))
    assert feed.column("label").tolist() == list(range(79, 2, -1))


def test_rows_are_sorted_by_the_lengths_of_their_columns(tmp_path: Path) -> None:
    """Check that padding does not count, and that the first column decides before the second."""
    columns = {"tokens": Column("int32", (3,)), "text": Column("utf8")}
    rows = [([5, 0, 0], "aaaa"), ([5, 6, 7], "a"), ([5, 6, 0], "aaa"), ([5, 6, 0], "")]
    write_part(tmp_path / "0.arrow", columns, ({"tokens": np.int32(row), "text": text} for row, text in rows))
    feed = Feed(Split([tmp_path / "0.arrow"]))
    assert np.argsort(feed.lengths(["tokens", "text"])).tolist() == [0, 3, 2, 1]
    assert np.argsort(feed.lengths(["text"])).tolist() == [3, 1, 2, 0]
    assert feed.walk(2, 0, 1, range(1), grouped_by=["text"]).order.lengths is not None


def test_a_batch_larger_than_the_split_is_refused(split: Split) -> None:
    with pytest.raises(Refusal, match=r"fit\.batch: 81 is larger than the 80"):
        Feed(split).order(81, 0)


@pytest.mark.parametrize("resident", [0, 1 << 30])
@pytest.mark.parametrize("device", devices)
def test_each_example_has_the_number_of_its_row(split: Split, device: str, resident: int) -> None:
    rows = np.arange(79, 4, -1)
    feed = Feed(split, rows, torch.device(device), resident)
    (batch, _), _ = feed.walk(batch=20, seed=3, shards=2, own_shards=range(0, 2)).at(1)
    assert batch["row"].tolist() == batch["label"].tolist()
    assert [row for part in feed.batches(7) for row in part["row"].tolist()] == rows.tolist()
    assert feed.column("text")[0] == "row 79"
