"""COCO's layout: boxes, crowds, polygons and run lengths against pycocotools, splits, and one line per fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco
from pycocotools.coco import COCO

from components.data.coco_folder import CocoFolder, decode_segmentation, parse_instances
from components.errors import Refusal
from components.storage.dataset import Fault

SQUARE = [4, 2, 14, 2, 14, 10, 4, 10]


def runs(mask: np.ndarray) -> dict[str, Any]:
    """Return compressed run lengths of a mask, as text."""
    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode()}


def plain_runs(mask: np.ndarray) -> dict[str, Any]:
    """Return uncompressed run lengths of a mask: column by column, background first."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [2]])))
    return {"size": list(mask.shape), "counts": np.diff(np.concatenate([[0], edges])).tolist()}


def item(picture: int, category: int, box: list[float], **more: Any) -> dict[str, Any]:
    return {"image_id": picture, "category_id": category, "bbox": box, "iscrowd": 0} | more


def content() -> dict[str, Any]:
    half = np.zeros((20, 30), np.uint8)
    half[5:15, :8] = 1
    return {
        "images": [
            {"id": 3, "file_name": "a.png", "width": 30, "height": 20},
            {"id": 9, "file_name": "b.png", "width": 20, "height": 20},
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [
            item(3, 18, [4, 2, 10, 8], id=1, segmentation=[SQUARE]),
            item(3, 2, [0, 5, 8, 10], id=2, segmentation=runs(half)),
            item(3, 2, [0, 0, 30, 20], id=3, iscrowd=1, segmentation=plain_runs(np.ones((20, 30), np.uint8))),
        ],
    }


def write(root: Path, value: dict[str, Any], name: str = "instances.json", folder: str = "images") -> Path:
    (root / folder).mkdir(parents=True, exist_ok=True)
    for record in value["images"]:
        pixels = np.full((record["height"], record["width"], 3), record["id"], np.uint8)
        Image.fromarray(pixels).save(root / folder / record["file_name"])
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(json.dumps(value))
    return root


def of_root(root: Path, **arguments: Any) -> CocoFolder:
    options = {"annotations": "instances.json", "pictures": "images", "size": [20, 30], "test": 0.0} | arguments
    return CocoFolder(str(root), **options)


def all_of(data: CocoFolder, split: str = "train") -> list[dict[str, Any]]:
    """Return the examples of a split as `prepare` would: faults are refused, or half out."""
    examples = [example for part in range(data.parts()[split]) for example in data.examples(split, part)]
    for fault in examples:
        if isinstance(fault, Fault) and data.bad != "skip":
            raise Refusal(fault.reason)
    return [example for example in examples if not isinstance(example, Fault)]


def test_boxes_crowds_and_masks(tmp_path: Path) -> None:
    data = of_root(write(tmp_path, content()), masks=True)
    assert data.classes == ["cat", "dog"]  # by their ids
    first, second = all_of(data)
    assert first["boxes"].tolist() == [[4, 2, 14, 10], [0, 5, 8, 15]]
    assert first["labels"].tolist() == [1, 0]
    assert first["crowd"].tolist() == [[0, 0, 30, 20]]
    assert first["crowd_labels"].tolist() == [0]
    assert second["boxes"].shape == (0, 4)
    oracle = COCO()
    oracle.dataset = content()
    oracle.createIndex()
    masks = [oracle.annToMask(annotation).astype(bool) for annotation in content()["annotations"][:2]]
    # Both have 80 pixels; of equal ones the later one is in front.
    assert np.array_equal(first["instances"] == 2, masks[1])
    assert np.array_equal(first["instances"] == 1, masks[0] & ~masks[1])
    assert np.array_equal(first["mask"], np.array([0, 2, 1])[first["instances"]])
    assert data.notes == ["1 crowds or difficult objects are neither learnt nor judged"]


def test_the_smaller_object_is_in_front(tmp_path: Path) -> None:
    value = content()
    value["annotations"] = [
        item(3, 18, [4, 4, 4, 4], segmentation=[[4, 4, 8, 4, 8, 8, 4, 8]]),
        item(3, 2, [0, 0, 20, 20], segmentation=[[0, 0, 20, 0, 20, 20, 0, 20]]),
    ]
    instances = all_of(of_root(write(tmp_path, value), masks=True))[0]["instances"]
    assert (instances == 1).sum() == 16
    assert (instances == 2).sum() == 400 - 16


def test_files_and_folders_of_splits(tmp_path: Path) -> None:
    for split, year in (("train", "2017"), ("val", "2017")):
        write(tmp_path, content(), f"annotations/instances_{split}{year}.json", f"{split}{year}")
    data = CocoFolder(str(tmp_path), size=[20, 20])
    assert {split: len(names) for split, names in data.rows.items()} == {"train": 2, "test": 2}
    assert all(name.startswith("val2017/") for name in data.rows["test"])


def test_classes_select_categories(tmp_path: Path) -> None:
    first, _ = all_of(of_root(write(tmp_path, content()), classes=["dog"]))
    assert first["labels"].tolist() == [0]
    assert first["boxes"].tolist() == [[4, 2, 14, 10]]
    assert first["crowd"].shape == (0, 4)


def test_run_lengths_equal_pycocotools() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        mask = (random.random(random.integers(1, 80, 2)) < random.random()).astype(np.uint8)
        size = mask.shape[::-1]
        for encoded in (runs(mask), plain_runs(mask)):
            assert np.array_equal(decode_segmentation(encoded, size, ""), mask.astype(bool))


FAULTS = [
    ({"bbox": [25, 5, 9, 5]}, r"object 1: the box 25, 5, 34, 10 is outside the picture of 30 x 20 pixels"),
    ({"bbox": [5, 5, 0, 5]}, r"object 1: the box has x2 <= x1 \(5 <= 5\)"),
    ({"bbox": [5, 5, 5, -5]}, r"object 1: the box has y2 <= y1 \(0 <= 5\)"),
    ({"category_id": 77}, r"object 1: class '77' is not one of cat, dog"),
]


@pytest.mark.parametrize(("change", "line"), FAULTS)
def test_faulty_objects_are_refused_or_left_out(tmp_path: Path, change: dict[str, Any], line: str) -> None:
    value = content()
    value["annotations"][0] |= change
    with pytest.raises(Refusal, match=f"instances.json: picture 3: {line}; correct it"):
        all_of(of_root(write(tmp_path, value), masks=True))
    data = of_root(tmp_path, bad="skip", masks=True)
    first, _ = all_of(data)
    assert first["labels"].tolist() == [0]
    assert set(np.unique(first["instances"])) == {0, 1}
    assert first["boxes"].tolist() == [[0, 5, 8, 15]]
    assert list(data.remarks.values()) == [1]


def test_pictures_and_annotations_need_each_other(tmp_path: Path) -> None:
    root = write(tmp_path, content())
    Image.new("RGB", (4, 4)).save(root / "images" / "c.png")
    with pytest.raises(Refusal, match=r"images/c.png: a picture without an annotation in instances.json"):
        of_root(root).parts()
    (root / "images" / "c.png").unlink()
    (root / "images" / "b.png").unlink()
    with pytest.raises(Refusal, match=r"instances.json: an annotation without a picture: there is no images/b.png"):
        of_root(root).parts()
    assert len(all_of(of_root(root, bad="skip"))) == 1
    value = content()
    value["annotations"][0]["image_id"] = 55
    with pytest.raises(Refusal, match="an annotation without a picture: image_id 55 is not listed"):
        of_root(write(tmp_path, value)).parts()


SEGMENTATIONS = [
    ([[1, 2, 3]], "a polygon needs x and y of at least three corners"),
    ([[1, 2, 3, 4, 1e9, 5]], "a polygon has a corner far outside the picture"),
    ({"size": [20, 31], "counts": [620]}, "a mask of 31 x 20 pixels for a picture of 30 x 20"),
    ({"size": [20, 30], "counts": [10]}, "run lengths of 10 pixels for 600"),
    ({"size": [20, 30], "counts": [700, -100]}, "run lengths of 600 pixels for 600"),
    ({"size": [20, 30], "counts": "\x00\x7f!!"}, "run lengths with the character"),
    (None, "an object without polygons or run lengths"),
]


@pytest.mark.parametrize(("segmentation", "line"), SEGMENTATIONS)
def test_broken_segmentations_are_refused(tmp_path: Path, segmentation: Any, line: str) -> None:
    value = content()
    value["annotations"][0]["segmentation"] = segmentation
    with pytest.raises(Refusal, match=f"picture 3: .*{line}"):
        all_of(of_root(write(tmp_path, value), masks=True))
    assert len(all_of(of_root(tmp_path))) == 2
    assert len(all_of(of_root(tmp_path, masks=True, bad="skip"))) == 1


def test_a_picture_of_another_size_than_stated_is_refused_with_masks(tmp_path: Path) -> None:
    root = write(tmp_path, content())
    Image.new("RGB", (31, 20)).save(root / "images" / "a.png")
    with pytest.raises(Refusal, match="picture 3: the mask has 30 x 20 pixels, the picture 31 x 20"):
        all_of(of_root(root, masks=True))


@pytest.mark.parametrize("text", ["[", "[]", '{"images": 3}', '{"images": [{}], "annotations": [], "categories": []}'])
def test_other_json_is_refused(tmp_path: Path, text: str) -> None:
    write(tmp_path, content())
    (tmp_path / "instances.json").write_text(text)
    with pytest.raises(Refusal, match=r"instances.json: not a file of COCO instances \("):
        of_root(tmp_path).parts()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"images": [[1]]}, r"images\[0\] is not an object"),
        ({"images": {"a": 1}}, r"images\[0\] is not an object"),
    ],
)
def test_a_record_that_is_no_object_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(Refusal, match=f"^a.json: not a file of COCO instances .*{says}"):
        parse_instances("a.json", json.dumps(content() | change).encode())


@pytest.mark.parametrize(
    ("place", "change", "line"),
    [
        ("images", {"id": 3}, "images: id 3 has file_name 'a.png' and 'b.png'"),
        ("images", {"file_name": "a.png"}, "images: file_name 'a.png' has id 3 and 9"),
        ("categories", {"id": 18}, "categories: id 18 has name 'dog' and 'cat'"),
    ],
)
def test_records_that_would_hide_each_other_are_refused(place: str, change: dict[str, Any], line: str) -> None:
    value = content()
    value[place][1] |= change
    with pytest.raises(Refusal, match=line):
        parse_instances("a.json", json.dumps(value).encode())


def test_categories_of_one_name_are_one_class(tmp_path: Path) -> None:
    value = content()
    value["categories"][1]["name"] = "dog"
    assert of_root(write(tmp_path, value)).classes == ["dog"]


@pytest.mark.parametrize("side", [-30, 0, 10**9])
def test_a_picture_of_an_impossible_size_is_a_fault(tmp_path: Path, side: int) -> None:
    root, value = tmp_path / "set", content()
    write(root, value)
    value["images"][0]["width"] = side
    (root / "instances.json").write_text(json.dumps(value))
    data = CocoFolder(str(root), "instances.json", "images", masks=True, test=0.0)
    faults = [example for example in data.examples("train", 0) if isinstance(example, Fault)]
    assert [f"picture 3: its record states {side} x 20 pixels; correct it" in fault.reason for fault in faults] == [
        True
    ]


def test_a_class_that_no_file_has_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "set", content())
    with pytest.raises(Refusal, match=r"^classes: 'dgo' is not a category .*did you mean 'dog'"):
        CocoFolder(str(tmp_path / "set"), "instances.json", "images", classes=["dgo"]).parts()


@pytest.mark.parametrize("box", [[-0.9, 2, 0.7, 8], [4, -0.9, 10, 0.9]])
def test_a_box_just_outside_its_picture_is_a_fault(tmp_path: Path, box: list[float]) -> None:
    """Check boxes that would have no area once they are clipped."""
    value = content()
    value["annotations"] = [item(3, 18, box)]
    data = CocoFolder(str(write(tmp_path / "set", value)), "instances.json", "images", test=0.0)
    faults = [example.reason for example in data.examples("train", 0) if isinstance(example, Fault)]
    assert ["is outside the picture of 30 x 20 pixels" in reason for reason in faults] == [True]
