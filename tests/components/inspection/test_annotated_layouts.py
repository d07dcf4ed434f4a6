"""Pictures with boxes, masks or polygons are recognised, their objects counted and their faults listed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.components.inspection.layouts import inspect, prepare, save


def test_boxes_and_masks_are_counted_and_faults_listed(tmp_path: Path) -> None:
    voc = tmp_path / "voc"
    for i in range(3):
        save(voc / "images" / f"{i}.jpg", 40 * i, (40, 30))
    box = "<bndbox><xmin>{}</xmin><ymin>2</ymin><xmax>{}</xmax><ymax>9</ymax></bndbox>"
    for i, ends in enumerate([(1, 20), (5, 5), (1, 90)]):
        (voc / "annotations").mkdir(exist_ok=True)
        content = f"<annotation><object><name>owl</name>{box.format(*ends)}</object></annotation>"
        (voc / "annotations" / f"{i}.xml").write_text(content)
    (voc / "annotations" / "9.xml").write_text("<annotation/>")
    findings = inspect(voc)
    assert findings.layout.startswith("Pascal VOC")
    assert findings.counts == {"boxes": {"owl": 3}}
    for part in ("9.xml: no picture", "1.xml: a box without an area", "2.xml: a box beyond its picture of 40 x 30"):
        assert any(part in line for line in findings.odd), findings.odd
    coco = tmp_path / "coco"
    save(coco / "images" / "a.jpg", 9)
    record = {
        "images": [
            {"id": 1, "file_name": "a.jpg", "width": 40, "height": 30},
            {"id": 2, "file_name": "b.jpg", "width": 40, "height": 30},
        ],
        "annotations": [
            {"id": 5, "image_id": 1, "category_id": 3, "bbox": [0, 0, 0, 4]},
            {"id": 6, "image_id": 1, "category_id": 3, "bbox": [5, 5, 90, 4]},
        ],
        "categories": [{"id": 3, "name": "owl"}],
    }
    (coco / "instances.json").write_text(json.dumps(record))
    findings = inspect(coco)
    assert findings.layout.startswith("COCO")
    assert findings.counts == {"instances": {"owl": 2}}
    odd = "\n".join(findings.odd)
    assert "b.jpg" in odd
    assert "object 5 without an area" in odd
    assert "object 6 (the box 5, 5, 95, 9 is outside the picture of" in odd
    masks = tmp_path / "masks"
    for split in ("train", "val"):
        for i in range(3):
            save(masks / split / f"{i}.png", 9 * i)
            (masks / f"{split}annot").mkdir(exist_ok=True)
            Image.fromarray(np.full((8, 8), i, np.uint8)).save(masks / f"{split}annot" / f"{i}.png")
    findings = inspect(masks)
    assert findings.layout.startswith("pictures with a label picture each")
    assert findings.counts["train"] == {"pictures": 3, "masks": 3}
    assert findings.recipe is not None
    assert findings.recipe["data"]["masks"] == "{split}annot/{name}.png"
    objects = tmp_path / "objects"
    for i in range(3):
        save(objects / "all" / f"p{i}" / "images" / f"{i}.png", 9 * i)
        save(objects / "all" / f"p{i}" / "masks" / "m.png", 9 * i)
    findings = inspect(objects)
    assert findings.recipe is not None
    assert findings.recipe["data"]["masks"] == "all/{name}/masks/*.png"


@pytest.mark.parametrize(
    ("part", "field", "value", "message"),
    [
        ("images", "id", [1], "images[0]: 'id' is missing or not of type int"),
        ("images", "file_name", None, "images[0]: 'file_name' is missing or not of type str"),
        ("annotations", "image_id", {"a": 1}, "annotations[0]: 'image_id' is missing or not of type int"),
        ("annotations", "bbox", ["left", 5, 9, 4], "annotations[0]: 'bbox' does not have four numbers"),
        ("annotations", "bbox", [10**400, 5, 9, 4], "annotations[0]: 'bbox' does not have four numbers"),
        ("categories", "id", "owl", "categories[0]: 'id' is missing or not of type int"),
    ],
)
def test_a_coco_file_that_a_fit_would_refuse_is_named(
    tmp_path: Path, part: str, field: str, value: Any, message: str
) -> None:
    save(tmp_path / "a.jpg", 9)
    record: dict[str, Any] = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 40, "height": 30}],
        "annotations": [{"id": 5, "image_id": 1, "category_id": 3, "bbox": [0, 0, 4, 4]}],
        "categories": [{"id": 3, "name": "owl"}],
    }
    (tmp_path / "right.json").write_text(json.dumps(record))
    record[part][0][field] = value
    (tmp_path / "wrong.json").write_text(json.dumps(record))
    expected = f"wrong.json: not a file of COCO instances ({message}); correct it"
    findings = inspect(tmp_path)
    assert expected in findings.odd
    assert findings.recipe is not None
    (tmp_path / "right.json").unlink()
    findings = inspect(tmp_path)
    assert (findings.layout[:4], findings.recipe, findings.odd) == ("COCO", None, [expected])


def test_annotations_without_an_object_are_said(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg", 9)
    images = [{"id": 1, "file_name": "a.jpg", "width": 40, "height": 30}]
    record = {"images": images, "annotations": [], "categories": [{"id": 3, "name": "owl"}]}
    (tmp_path / "a.json").write_text(json.dumps(record))
    assert inspect(tmp_path).odd == ["no object in any file: a detector would learn to find nothing"]


def test_text_labels_of_yolo(tmp_path: Path) -> None:
    root = tmp_path / "owls"
    for i in range(24):
        split = "train" if i < 18 else "valid"
        save(root / split / "images" / f"{i}.jpg", 9 * i, (40, 30))
        (root / split / "labels").mkdir(exist_ok=True)
        (root / split / "labels" / f"{i}.txt").write_text(f"{i % 2} 0.5 0.5 0.{i % 6 + 2} 0.5\n")
    (root / "train" / "labels" / "0.txt").write_text(
        "0 0.5 0.5 0.4 0.4\n0 0.5 0.5 40 40\n0 0.5 0.5 0 0.1\n9 0.5 0.5 0.1 0.1"
    )
    (root / "train" / "labels" / "x.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    (root / "train" / "labels" / "2.txt").unlink()
    (root / "data.yaml").write_text("names: [owl, cat, dog]\nnc: 3")
    findings = inspect(root)
    assert findings.layout.startswith("YOLO")
    assert findings.counts == {"train": {"owl": 8, "cat": 9}, "validation": {"owl": 3, "cat": 3}}
    odd = "\n".join(findings.odd)
    for part in (
        "train/labels/0.txt line 2: the box -19.5, -19.5, 20.5, 20.5 is in pixels",
        "train/labels/0.txt line 3: the box 0.5, 0.45, 0.5, 0.55 has no area",
        "train/labels/0.txt line 4: class 9 is not one of the 3 named ones",
        "train/labels/x.txt: boxes without a picture",
        "1 picture without a text file (no objects), such as train/images/2.jpg",
        "class 'dog': no box has it",
    ):
        assert part in odd, odd
    manifest = prepare(findings, tmp_path / "out")
    assert {split: entry["rows"] for split, entry in manifest["splits"].items()} == {"train": 18, "test": 6}
    for file in root.rglob("*.txt"):
        file.write_text("a caption of this picture with words\n")
    assert not inspect(root).layout.startswith("YOLO")
