"""Layouts as people share them: paths of other machines, wrappers, masks of any values, fields inside fields."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.data.mask_folder import MaskFolder
from components.errors import Refusal
from components.storage.store import Store
from tests.components.inspection.layouts import inspect, prepare


def picture(path: Path, size: tuple[int, int] = (20, 16)) -> None:
    """Save noise that follows from the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(list(path.name.encode())).integers(0, 256, (size[1], size[0], 3))
    Image.fromarray(noise.astype(np.uint8)).save(path, format="JPEG" if path.suffix.lower() == ".jpg" else "PNG")


def mask(path: Path, values: list[Any], mode: str = "") -> None:
    """Save a mask of three stripes of these values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.repeat(np.array(values, np.uint8)[[0] * 6 + [1] * 5 + [-1] * 5][:, None], 20, 1)
    image = Image.fromarray(pixels)
    if mode == "P":
        image = Image.fromarray(pixels, "P")
        image.putpalette(list(range(256)) * 3)
    image.save(path)


def wrapped_classes(root: Path) -> None:
    for name in ("cat", "dog"):
        for i in range(12):
            picture(root / "archive" / "Pets" / name / f"{name}{i}.JPG")


def empty_classes(root: Path) -> None:
    for name in ("cat", "dog"):
        for i in range(12):
            picture(root / ("val" if i > 8 else "train") / name / f"{name}{i}.png")
    for split in ("train", "val"):
        (root / split / "cow").mkdir()


def absolute_paths(root: Path) -> None:
    for i in range(20):
        picture(root / "img" / f"{i}.png")
    (root / "a.csv").write_text("path,kind\n" + "\n".join(f"/home/me/img/{i}.png,{'ab'[i % 2]}" for i in range(20)))


def windows_paths(root: Path) -> None:
    for i in range(20):
        picture(root / "img" / f"{i}.PNG")
    lines = [f"C:\\Users\\me\\img\\{i}.PNG;{'ab'[i % 2]}" for i in range(20)]
    (root / "a.csv").write_text("path;kind\n" + "\n".join(lines), encoding="utf-16")


def coco_of_windows(root: Path) -> None:
    for i in range(24):
        picture(root / "images" / "sub" / f"{i}.jpg", (40, 30))
    runs = {"counts": [0, 1200], "size": [30, 40]}
    record = {
        "images": [{"id": i, "file_name": f"sub\\{i}.jpg", "width": 40, "height": 30} for i in range(26)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 9, 9], "iscrowd": i % 2, "segmentation": runs}
            for i in range(26)
        ],
        "categories": [{"id": 1, "name": "owl"}, {"id": 3, "name": "unused"}],
    }
    (root / "annotations.json").write_text(json.dumps(record))


def voc_side_by_side(root: Path) -> None:
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>20.5</xmax><ymax>9</ymax></bndbox>"
    for split, count in (("train", 8), ("test", 4)):
        for i in range(count):
            picture(root / split / f"{split}{i}.jpg", (40, 30))
            content = f"<annotation><object><name>owl</name>{box}</object></annotation>"
            (root / split / f"{split}{i}.xml").write_text(content)


def yolo_in_capitals(root: Path) -> None:
    for i in range(12):
        picture(root / "Images" / f"{i}.JPG", (40, 30))
        (root / "Labels").mkdir(exist_ok=True)
        (root / "Labels" / f"{i}.TXT").write_bytes(b"\xef\xbb\xbf0 0.5 0.5 0.4 0.4\r\n")
    (root / "Labels" / "classes.txt").write_text("owl\r\n")


def masks_in_split_folders(root: Path) -> None:
    for i in range(20):
        split = "train" if i < 14 else "val"
        picture(root / split / "images" / f"{i}.jpg")
        mask(root / split / "masks" / f"{i}.png", [0, 1, 255], "P")


def binary_masks(root: Path) -> None:
    for i in range(20):
        picture(root / "train" / f"{i}.jpg")
        mask(root / "train_masks" / f"{i}_mask.png", [0, 255])


def spread_masks(root: Path) -> None:
    for i in range(20):
        picture(root / "images" / f"{i}.png")
        mask(root / "annotations" / f"{i}.png", [[level] * 3 for level in (0, 38, 75)])


def coloured_masks(root: Path) -> None:
    for i in range(20):
        picture(root / "images" / f"{i}.png")
        mask(root / "labels" / f"{i}_L.png", [[0, 0, 0], [128, 0, 0], [64, 64, 0]])
    (root / "class_dict.csv").write_text("name,r,g,b\nsky,0,0,0\ncar,128,0,0\nroad,64,64,0\n")


def nested_fields(root: Path) -> None:
    lines = [
        {"id": i, "data": {"text": f"the text of number {i}"}, "annotation": {"label": "xy"[i % 2]}} for i in range(60)
    ]
    (root / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))


def short_texts(root: Path) -> None:
    (root / "a.csv").write_text("name,country\n" + "\n".join(f"Ann{i},{'xy'[i % 2]}" for i in range(60)))


def tabs_in_texts(root: Path) -> None:
    (root / "a.csv").write_text("text,label\n" + "\n".join(f"a\ttext of number {i},{'xy'[i % 2]}" for i in range(60)))


def text_files_of_classes(root: Path) -> None:
    for i in range(40):
        file = root / ("train" if i < 30 else "test") / ("pos" if i % 2 else "neg") / f"{i}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"this film, number {i}, was {'good' if i % 2 else 'bad'}")


def pairs_between_tabs(root: Path) -> None:
    (root / "fra.txt").write_text("".join(f"Go {i} now.\tVa {i} maintenant.\tCC-BY #{i}\n" for i in range(80)))


CASES: dict[Callable[[Path], None], tuple[str, dict[str, Any], list[str], list[str]]] = {
    # what is written: (the data set, some of its arguments, classes, what the review or the odd things say)
    wrapped_classes: ("ImageFolder", {}, ["cat", "dog"], []),
    empty_classes: ("ImageFolder", {"bad": "skip"}, ["cat", "dog"], ["classes without a picture left out: cow"]),
    absolute_paths: ("ImageTable", {"image": "path", "label": "kind"}, ["a", "b"], []),
    windows_paths: ("ImageTable", {"image": "path", "label": "kind"}, ["a", "b"], ["read as utf-16"]),
    coco_of_windows: (
        "CocoFolder",
        {"pictures": "images", "bad": "skip"},
        ["owl", "unused"],
        ["there is no images/sub/24.jpg", "crowds or difficult objects are neither learnt nor judged"],
    ),
    voc_side_by_side: ("VocFolder", {}, ["owl"], []),
    yolo_in_capitals: ("YoloFolder", {}, ["owl"], []),
    masks_in_split_folders: (
        "MaskFolder",
        {"pictures": "{split}/images/{name}.jpg", "masks": "{split}/masks/{name}.png"},
        ["class 0", "class 1"],
        [],
    ),
    binary_masks: (
        "MaskFolder",
        {"values": [0, 255], "ignored": [], "masks": "{split}_masks/{name}_mask.png"},
        ["class 0", "class 255"],
        [],
    ),
    spread_masks: ("MaskFolder", {"values": [0, 38, 75]}, ["class 0", "class 38", "class 75"], []),
    coloured_masks: (
        "MaskFolder",
        {"colours": [[0, 0, 0], [128, 0, 0], [64, 64, 0]], "masks": "labels/{name}_L.png"},
        ["sky", "car", "road"],
        [],
    ),
    nested_fields: ("TextTable", {"text": "data.text", "label": "annotation.label"}, ["x", "y"], []),
    short_texts: ("TextTable", {"text": "name", "tokens": "char"}, ["x", "y"], []),
    tabs_in_texts: ("TextTable", {"text": "text", "label": "label"}, ["x", "y"], []),
    text_files_of_classes: ("TextFolder", {}, ["neg", "pos"], []),
    pairs_between_tabs: ("Parallel", {}, [], []),
}


@pytest.mark.parametrize("write", CASES, ids=lambda write: write.__name__)
def test_the_proposed_data_are_prepared(tmp_path: Path, write: Callable[[Path], None]) -> None:
    (tmp_path / "data").mkdir()
    write(tmp_path / "data")
    name, arguments, classes, sentences = CASES[write]
    findings = inspect(tmp_path / "data")
    assert findings.recipe is not None
    data = findings.recipe["data"]
    assert data["use"].endswith(f".{name}")
    assert arguments.items() <= data.items(), data
    manifest = prepare(findings, tmp_path / "out")
    assert {"train", "test"} <= set(manifest["splits"])
    if classes:
        assert manifest["classes"] == classes
    text = "\n".join([*manifest["review"], *findings.odd])
    assert all(sentence in text for sentence in sentences), text
    if name == "MaskFolder":
        values = np.unique(Store(tmp_path / "out").split("train").array("mask"))
        assert set(values) - {255} == set(range(1, 1 + len(classes)))


def test_pictures_without_classes_and_columns_that_are_no_numbers_get_a_line(tmp_path: Path) -> None:
    for i in range(5):
        picture(tmp_path / "flat" / f"cat.{i}.jpg")
    assert "pictures without classes: put those of each class into a folder" in inspect(tmp_path / "flat").odd[-1]
    lines = [f"{1 + i // 24:02d}.01.2024;{i},5;{i}" for i in range(400)]
    (tmp_path / "a.csv").write_text("\n".join(["date;load;heat", *lines]))
    findings = inspect(tmp_path / "a.csv")
    assert findings.recipe is not None
    assert findings.recipe["data"]["columns"] == ["heat"]
    assert any(
        "column 'load': neither numbers nor ISO times; not used (such as '0,5'; numbers" in o for o in findings.odd
    )


def test_colours_and_values_that_do_not_fit_get_one_line(tmp_path: Path) -> None:
    coloured_masks(tmp_path)
    patterns = {"pictures": "images/{name}.png", "masks": "labels/{name}_L.png"}
    colours = [[0, 0, 0], [128, 0, 0], [64, 64, 0]]
    data = MaskFolder(str(tmp_path), ["car"], **patterns, colours=colours[1:] + colours[:1])
    example = next(iter(data.examples("train", 0)))
    assert set(np.unique(example["mask"])) == {1, 255}  # type: ignore[index]
    data = MaskFolder(str(tmp_path), ["sky", "car"], **patterns, colours=colours[:2])
    assert "L.png: the mask has the colour [64, 64, 0], which no class has" in str(
        next(iter(data.examples("train", 0)))
    )
    for arguments, line in (
        ({"colours": colours[:2]}, "colours: 2 different ones for 3 classes"),
        ({"colours": [[0, 0]]}, r"colours: \[0, 0\] must be \[red, green, blue\]"),
        ({"values": [0, 1]}, "values: 2 for 3 classes; give each class one"),
    ):
        with pytest.raises(Refusal, match=line):
            MaskFolder(str(tmp_path), ["a", "b", "c"], **patterns, **arguments)


@pytest.mark.parametrize(
    ("place", "line"),
    [("masks/1.png", "masks/1.png"), ("p1/masks/0.png", "p1/masks/0.png")],
    ids=["label pictures", "objects"],
)
def test_masks_of_another_size_than_their_picture_are_listed(tmp_path: Path, place: str, line: str) -> None:
    for i in range(12):
        above = tmp_path / f"p{i}" if place.startswith("p") else tmp_path
        picture(above / "images" / f"{i}.png", (21, 16) if i == 1 else (20, 16))
        mask(above / "masks" / ("0.png" if place.startswith("p") else f"{i}.png"), [0, 1])
    findings = inspect(tmp_path)
    assert f"{line}: the mask has 20 x 16 pixels, the picture 21 x 16" in findings.odd
    assert findings.recipe is not None
    assert findings.recipe["data"]["bad"] == "skip"
