"""A user's own pictures with a table: classes, tags and numbers; rows without a picture are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.data.image_table import ImageTable
from components.errors import Refusal
from components.storage.dataset import prepare_dataset
from components.storage.store import Store


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Write 30 pictures whose grey level is 8 * i, and what the table says about them."""
    lines = ["image,kind,tags,dark,light,level,who,part"]
    for i in range(30):
        (tmp_path / "pictures" / "deep").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 8), (8 * i,) * 3).save(tmp_path / "pictures" / "deep" / f"{i}.png")
        tags = " ".join((["dark"] if i < 20 else []) + (["light"] if i > 10 else []))
        part = ("train", "val", "test")[i % 3]
        lines.append(f"deep/{i}.png,k{i % 2},{tags},{int(i < 20)},{int(i > 10)},{8 * i},w{i // 5},{part}")
    (tmp_path / "a.csv").write_text("\n".join(lines))
    return tmp_path / "a.csv"


def rows_of(table: Path, folder: Path, **arguments: Any) -> dict[int, Any]:
    """Return {grey level: target} of all prepared rows."""
    data = ImageTable(str(table), str(table.parent / "pictures"), "image", size=8, **arguments)
    manifest = prepare_dataset(data, folder)
    name = next(name for name in ("label", "labels", "y") if name in manifest["columns"])
    targets = {}
    for split in manifest["splits"]:
        rows = Store(folder).split(split)
        batch = rows.take(np.arange(len(rows)))
        targets |= dict(zip(batch["image"][:, 0, 0, 0].tolist(), batch[name].tolist(), strict=True))
    return targets


def test_each_kind_of_target(table: Path, tmp_path: Path) -> None:
    assert rows_of(table, tmp_path / "1", label="kind") == {8 * i: i % 2 for i in range(30)}
    tags = {8 * i: [int(i < 20), int(i > 10)] for i in range(30)}
    assert rows_of(table, tmp_path / "2", tags=["tags"]) == tags
    assert rows_of(table, tmp_path / "3", tags=["dark", "light"]) == tags
    assert rows_of(table, tmp_path / "4", value="level") == {8 * i: 8.0 * i for i in range(30)}


def test_names_may_lack_the_suffix_or_begin_with_the_folder(table: Path, tmp_path: Path) -> None:
    text = table.read_text()
    table.write_text(text.replace(".png", ""))
    assert len(rows_of(table, tmp_path / "1", label="kind")) == 30
    table.write_text(text.replace("deep/", "pictures/deep/"))
    assert len(rows_of(table, tmp_path / "2", label="kind")) == 30


def test_splits_come_from_a_column_or_keep_groups_together(table: Path) -> None:
    data = ImageTable(str(table), str(table.parent / "pictures"), "image", label="kind", split="part")
    assert {split: len(rows) for split, rows in data.splits.items()} == {"train": 10, "validation": 10, "test": 10}
    data = ImageTable(str(table), str(table.parent / "pictures"), "image", label="kind", group="who", test=0.3)
    groups = [{row // 5 for row in rows if isinstance(row, int)} for rows in data.splits.values()]
    assert len(groups) == 2
    assert not groups[0] & groups[1]


def test_bad_rows_are_named_all_at_once_and_spare_pictures_counted(table: Path, tmp_path: Path) -> None:
    (table.parent / "pictures" / "deep" / "3.png").write_bytes(b"")
    Image.new("L", (8, 8)).save(table.parent / "pictures" / "spare.png")
    table.write_text(table.read_text() + "\nnone.png,k0,,1,0,1,w,train\ndeep/0.png,,,1,0,x,w,train\n")
    with pytest.raises(Refusal) as refused:
        rows_of(table, tmp_path / "1", label="kind")
    for part in (
        "3 examples can't be read",
        "deep/3.png: damaged",
        "row 32: no picture 'none.png'",
        "row 33: no label",
    ):
        assert part in str(refused.value)
    rows_of(table, tmp_path / "2", label="kind", bad="skip")
    review = Store(tmp_path / "2").manifest["review"]
    assert any(sentence.startswith("1 picture without a row in a table") for sentence in review)
    with pytest.raises(Refusal, match="'x' in column 'level' is not a number"):
        rows_of(table, tmp_path / "3", value="level")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "label: set exactly one of label, tags and value"),
        ({"label": "kind", "value": "level"}, "label: set exactly one of"),
        ({"label": "king"}, r"label: .*no column 'king' \(did you mean 'kind'\?\)"),
        ({"tags": ["dark", "level"]}, "'16' is neither 0 nor 1"),
        ({"label": "kind", "split": "who"}, "split: .* row 2 has 'w0' in column 'who'"),
    ],
)
def test_wrong_arguments_are_refused(table: Path, tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(Refusal, match=message):
        rows_of(table, tmp_path / "out", **arguments)


def test_an_empty_separator_is_refused(table: Path) -> None:
    with pytest.raises(Refusal, match=r"^separator: is empty"):
        ImageTable(str(table), str(table.parent / "pictures"), "image", tags=["tags"], separator="")
