"""Pictures in folders of classes or beside a table are recognised, counted and proposed as a recipe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.components.inspection.layouts import inspect, prepare, save


def test_folders_of_classes_with_all_that_folders_contain(tmp_path: Path) -> None:
    root = tmp_path / "pets"
    for split, count in (("train", 12), ("val", 4)):
        for number, name in enumerate(("cat", "dog")):
            for i in range(count):
                save(root / split / name / f"{i}.png", 100 * number + 20 * (split == "val") + i)
    save(root / "train" / "dog" / ".ipynb_checkpoints" / "0.png", 100)
    save(root / "val" / "cat" / "same.png", 3)  # as train/cat/3.png
    save(root / "train" / "dog" / "same.png", 4)  # as train/cat/4.png
    (root / "train" / "dog" / "broken.png").write_bytes(b"x")
    (root / "train" / "dog" / "a.heic").write_bytes(b"x")
    Image.fromarray(np.full((8, 8), 4000, np.uint16)).save(root / "train" / "cat" / "deep.png")
    exif = Image.Exif()
    exif[274] = 6
    save(root / "train" / "cat" / "turned.jpg", 200, (16, 8), exif=exif)
    (root / "train" / "cat" / "link.png").symlink_to(tmp_path / "nowhere")
    save(root / "train" / "cat" / "1.PNG", 70)
    findings = inspect(root)
    assert findings.layout.startswith("folders of classes")
    assert findings.counts == {"train": {"cat": 15, "dog": 14}, "validation": {"cat": 5, "dog": 4}}
    odd = "\n".join(findings.odd)
    for part in (
        "1 file in folders called .ipynb_checkpoints: passed over",
        "train/cat/link.png: a link to nothing",
        "train/cat/1.png: differs from train/cat/1.PNG in case",
        "dog/broken.png: damaged or not a picture",
        "train/cat/deep.png: more than 8 bits, levels 4000 to 4000",
        "train/cat/turned.jpg: turned by its EXIF orientation",
        "train/cat/3.png = val/cat/same.png: equal pictures in two splits",
        "train/cat/4.png = train/dog/same.png: equal pictures in two classes",
        "1 file .heic: can't be read here; convert them to JPEG or PNG",
    ):
        assert part in odd, odd
    assert findings.recipe is not None
    data = findings.recipe["data"]
    assert data == {
        "use": "data.image_folder.ImageFolder",
        "folder": str(root),
        "size": 32,
        "levels": [0, 4095],
        "bad": "skip",
        "conflicts": "drop",
    }
    assert "sizes: 2 different, widths 8 to 8, heights 8 to 16" in findings.facts[0]
    assert 0 < len(findings.samples) <= 24
    (root / "train" / "cat" / "link.png").unlink()
    assert set(prepare(findings, tmp_path / "out")["splits"]) == {"train", "validation", "test"}


def test_a_table_of_pictures(tmp_path: Path) -> None:
    for i in range(30):
        save(tmp_path / "img" / f"{i}.png", 8 * i)
    lines = [f"{i}.png,{'ab'[i % 2]}" for i in range(30)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,kind", *lines, "none.png,a"]))
    findings = inspect(tmp_path)
    assert findings.layout.startswith("pictures and a table")
    assert any("row 32: no picture 'none.png'" in line for line in findings.odd)
    assert findings.recipe is not None
    assert findings.recipe["data"] | {"file": "", "folder": ""} == {
        "use": "data.image_table.ImageTable",
        "file": "",
        "folder": "",
        "image": "file",
        "label": "kind",
        "size": 32,
        "bad": "skip",
    }
    assert prepare(findings, tmp_path / "out")["classes"] == ["a", "b"]
    (tmp_path / "labels.csv").write_text("\n".join(["file,age", *(f"{i}.png,{20 + i * 0.5}" for i in range(30))]))
    assert inspect(tmp_path).recipe["task"]["use"] == "tasks.picture_regression.PictureRegression"  # type: ignore[index]
    tags = [f"{i}.png,{'red' if i % 2 else ''} {'big' if i % 3 else ''}" for i in range(30)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,tags", *tags]))
    assert inspect(tmp_path).recipe["task"]["use"] == "tasks.multi_label.MultiLabel"  # type: ignore[index]


def test_lists_of_pictures_and_their_splits(tmp_path: Path) -> None:
    for i in range(60):
        save(tmp_path / "images" / f"{'ab'[i % 2]}_{i}.jpg", 4 * i)
    lines = [f"{'ab'[i % 2]}_{i} {i % 2 + 1} 1 {i}" for i in range(60)]
    (tmp_path / "README").write_text("no table")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "test.txt").write_text("\n".join(lines[40:]) + "\n")
    (tmp_path / "annotations" / "trainval.txt").write_text("\n".join(lines[:40]) + "\n")
    findings = inspect(tmp_path)
    assert findings.recipe is not None
    data = findings.recipe["data"]
    assert (data["image"], data["label"], data["delimiter"]) == ("1", "2", " ")
    assert data["test_file"] == str(tmp_path / "annotations" / "test.txt")
    manifest = prepare(findings, tmp_path / "out")
    assert {split: entry["rows"] for split, entry in manifest["splits"].items()} == {"train": 40, "test": 20}
    (tmp_path / "annotations" / "test.txt").write_text("a text\n")
    (tmp_path / "annotations" / "trainval.txt").write_text("another text\n")
    assert inspect(tmp_path).recipe is None  # a few texts beside pictures are not a corpus


def test_the_table_of_labels_is_not_the_sample_submission(tmp_path: Path) -> None:
    for i in range(40):
        save(tmp_path / ("train" if i < 30 else "test") / f"{i:03d}.jpg", 6 * i)
    (tmp_path / "sample_submission.csv").write_text("id,kind\n" + "\n".join(f"{i:03d},a" for i in range(30, 40)))
    (tmp_path / "labels.csv").write_text("id,kind\n" + "\n".join(f"{i:03d},{'ab'[i % 2]}" for i in range(30)))
    (tmp_path / "test.csv").write_text("id,note\n" + "\n".join(f"{i:03d},x" for i in range(30, 40)))
    findings = inspect(tmp_path)
    assert findings.recipe is not None
    assert findings.recipe["data"]["file"] == str(tmp_path / "labels.csv")
    assert findings.odd == [
        "sample_submission.csv: another table; not used",
        "test.csv: another table; not used",
        "10 pictures without a row in a table: passed over",
    ]
