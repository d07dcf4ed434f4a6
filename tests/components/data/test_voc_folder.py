"""Pascal VOC's layout: boxes, difficult objects, masks, splits, orientation, and one clear line per fault."""

from __future__ import annotations

import io
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.data.voc_folder import VocFolder
from components.errors import Refusal
from components.storage.dataset import Fault, prepare_dataset
from components.storage.store import Store

REAL = Path(__file__).parents[4] / "shared" / "data" / "raccoon" / "raccoon.tar.gz"


def xml(objects: list[tuple[Any, ...]], size: tuple[int, int] = (40, 20)) -> str:
    """Return an annotation of objects (class, x1, y1, x2, y2, difficult), counted from 1."""
    items = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
        f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for name, x1, y1, x2, y2, difficult in objects
    )
    return f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{items}</annotation>"


def write(root: Path, name: str, objects: list[tuple[Any, ...]], size: tuple[int, int] = (40, 20)) -> None:
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "Annotations" / f"{name}.xml").write_text(xml(objects, size))
    Image.fromarray(np.full((size[1], size[0], 3), ord(name[0]), np.uint8)).save(root / "JPEGImages" / f"{name}.png")


def lists(root: Path, folder: str = "Main", **names: str) -> None:
    (root / "ImageSets" / folder).mkdir(parents=True, exist_ok=True)
    for split, text in names.items():
        (root / "ImageSets" / folder / f"{split}.txt").write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "VOCdevkit" / "VOC2012"
    write(folder, "a", [("cat", 1, 1, 20, 10, 0), ("dog", 21, 11, 40, 20, 1)])
    write(folder, "b", [("dog", 5, 5, 14, 14, 0)], size=(20, 20))
    write(folder, "c", [])
    lists(folder, train="a\n", val="b\n", test="c\n")
    return folder


def all_of(data: VocFolder, split: str) -> list[dict[str, Any]]:
    """Return the examples of a split as `prepare` would: faults are refused, or left out."""
    examples = [example for part in range(data.parts()[split]) for example in data.examples(split, part)]
    for fault in examples:
        if isinstance(fault, Fault) and data.bad != "skip":
            raise Refusal(fault.reason)
    return [example for example in examples if not isinstance(example, Fault)]


def test_boxes_are_in_the_letterbox_and_difficult_ones_apart(root: Path) -> None:
    data = VocFolder(str(root.parents[1]), size=[40, 40])
    assert data.classes == ["cat", "dog"]
    assert {split: len(names) for split, names in data.rows.items()} == {"train": 1, "validation": 1, "test": 1}
    (a,), (b,), (c,) = (all_of(data, split) for split in ("train", "validation", "test"))
    assert a["boxes"].tolist() == [[0, 10, 20, 20]]
    assert a["labels"].tolist() == [0]
    assert a["crowd"].tolist() == [[20, 20, 40, 30]]
    assert a["crowd_labels"].tolist() == [1]
    assert a["geometry"].tolist() == [0, 10, 40, 20, 40, 20]
    assert b["boxes"].tolist() == [[8, 8, 28, 28]]
    assert c["boxes"].shape == c["crowd"].shape == (0, 4)
    assert data.notes == ["1 crowds or difficult objects are neither learnt nor judged"]


def test_an_archive_reads_like_its_folder_and_is_stored(root: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "voc.tar.gz", "w:gz") as archive:
        archive.add(root.parents[0], "VOCdevkit")
    for number, path in enumerate((root.parents[1], tmp_path / "voc.tar.gz")):
        prepare_dataset(VocFolder(str(path), size=[32, 32]), tmp_path / f"out{number}")
    (tmp_path / "raw").mkdir()
    (tmp_path / "voc.tar.gz").rename(tmp_path / "raw" / "voc.tar.gz")
    prepare_dataset(VocFolder(str(tmp_path / "raw"), size=[32, 32]), tmp_path / "out2")
    first, second, third = (Store(tmp_path / f"out{number}").manifest for number in range(3))
    assert first["digest"] == second["digest"] == third["digest"]
    assert third["name"] == "raw"
    assert first["review"] == ["1 crowds or difficult objects are neither learnt nor judged"]


def test_lower_case_folders_without_lists_are_split_by_a_draw(tmp_path: Path) -> None:
    for number in range(40):
        write(tmp_path, f"p{number}", [("cat", 1, 1, 9, 9, 0)], size=(10 + number, 20))
    (tmp_path / "Annotations").rename(tmp_path / "annotations")
    (tmp_path / "JPEGImages").rename(tmp_path / "images")
    data = VocFolder(str(tmp_path), test=0.3, validation=0.2)
    rows = data.rows
    assert sum(map(len, rows.values())) == 40
    assert 5 <= len(rows["test"]) <= 20
    (tmp_path / "images" / "p0.png").unlink()
    (tmp_path / "annotations" / "p0.xml").unlink()
    fewer = VocFolder(str(tmp_path), test=0.3, validation=0.2).rows
    assert all(set(fewer[split]) == set(rows[split]) - {"images/p0.png"} for split in rows)


def test_the_validation_list_is_the_test_split_if_there_is_none(root: Path) -> None:
    (root / "ImageSets/Main/test.txt").unlink()
    assert {split: len(names) for split, names in VocFolder(str(root)).rows.items()} == {"train": 1, "test": 1}


def test_masks_of_voc(root: Path) -> None:
    """Check that outlines (255) are not judged, and that a difficult object is in no instance."""
    labels, objects = np.zeros((20, 40), np.uint8), np.zeros((20, 40), np.uint8)
    labels[:10, :20], objects[:10, :20] = 1, 1
    labels[10:, 20:], objects[10:, 20:] = 2, 2
    labels[9, :20] = objects[9, :20] = 255
    for folder, pixels in (("SegmentationClass", labels), ("SegmentationObject", objects)):
        (root / folder).mkdir()
        picture = Image.fromarray(pixels, "P")
        picture.putpalette(list(range(256)) * 3)
        picture.save(root / folder / "a.png")
    lists(root, "Segmentation", train="a\n")
    data = VocFolder(str(root), size=[20, 40], masks=True, test=0.0)
    (example,) = all_of(data, "train")
    assert np.array_equal(example["mask"], labels)
    assert np.array_equal(example["instances"], np.where(objects == 1, 1, 0))
    assert example["labels"].tolist() == [0]
    Image.fromarray(labels[:, :30]).save(root / "SegmentationClass" / "a.png")
    with pytest.raises(Refusal, match=r"SegmentationClass/a.png: the mask has 30 x 20 pixels, the picture 40 x 20"):
        all_of(VocFolder(str(root), masks=True, test=0.0), "train")
    labels[0, 0] = 7
    Image.fromarray(labels).save(root / "SegmentationClass" / "a.png")
    with pytest.raises(Refusal, match=r"a.png: the mask has the label 7, which is outside the classes"):
        all_of(VocFolder(str(root), masks=True, test=0.0), "train")


def test_orientation_follows_exif_unless_the_annotation_states_the_stored_size(root: Path) -> None:
    """Store a picture on its side; its left half is bright after turning."""
    stored = np.zeros((40, 20, 3), np.uint8)
    stored[20:] = 200  # orientation 6 turns it clockwise: below becomes left
    exif = Image.Exif()
    exif[0x0112] = 6
    file = root / "JPEGImages" / "a.png"
    Image.fromarray(stored).save(file, exif=exif)
    (turned,) = all_of(VocFolder(str(root), size=[20, 40]), "train")
    assert turned["image"][:, :20].min() == 200
    assert turned["boxes"].tolist() == [[0, 0, 20, 10]]
    (root / "Annotations" / "a.xml").write_text(xml([("cat", 1, 21, 20, 40, 0)], (20, 40)))
    (as_stored,) = all_of(VocFolder(str(root), size=[40, 20], classes=["cat", "dog"]), "train")
    assert as_stored["image"][20:].min() == 200
    assert as_stored["boxes"].tolist() == [[0, 20, 20, 40]]


FAULTS = [
    (("cat", 30, 1, 43, 9, 0), r"a.xml: object 1: the box 29, 0, 43, 9 is outside the picture of 40 x 20 pixels"),
    (("cat", -9, 1, 3, 9, 0), r"object 1: the box -10, 0, 3, 9 is outside the picture of 40 x 20 pixels"),
    (("cat", 9, 1, 9, 9, 0), r"object 1: the box has x2 <= x1 \(9 <= 9\)"),
    (("cat", 1, 9, 9, 4, 0), r"object 1: the box has y2 <= y1 \(4 <= 9\)"),
    (("cat", "x", 9, 9, 14, 0), r"object 1: the box nan, 8, 9, 14 has a coordinate that is not a number"),
    (("cow", 1, 1, 9, 9, 0), r"object 1: class 'cow' is not one of cat, dog"),
]


@pytest.mark.parametrize(("item", "line"), FAULTS)
def test_faulty_objects_are_refused_or_left_out(root: Path, item: tuple[Any, ...], line: str) -> None:
    write(root, "a", [item, ("dog", 1, 1, 9, 9, 0)])
    with pytest.raises(Refusal, match=f"{line}; correct it"):
        all_of(VocFolder(str(root), classes=["cat", "dog"]), "train")
    data = VocFolder(str(root), classes=["cat", "dog"], bad="skip")
    (example,) = all_of(data, "train")
    assert example["labels"].tolist() == [1]
    ((remark, count),) = data.remarks.items()
    assert count == 1
    assert re.fullmatch(f"lose an object, .*{line}", remark)


def test_a_box_may_stand_out_by_a_pixel_and_is_clipped(root: Path) -> None:
    write(root, "a", [("cat", 30, 1, 41, 9, 0)])
    (example,) = all_of(VocFolder(str(root), size=[20, 40]), "train")
    assert example["boxes"].tolist() == [[29, 0, 40, 9]]


@pytest.mark.parametrize(("folder", "line"), [("JPEGImages", "a picture without"), ("Annotations", "an annotation")])
def test_a_picture_and_an_annotation_need_each_other(root: Path, folder: str, line: str) -> None:
    lists(root, train="a\nc\n", val="c\n", test="c\n")
    if folder == "JPEGImages":
        shutil.rmtree(root / "ImageSets")  # with lists, pictures that none has are not used
    other = {"JPEGImages": "Annotations/b.xml", "Annotations": "JPEGImages/b.png"}[folder]
    (root / other).unlink()
    with pytest.raises(Refusal, match=f"{folder}/b.*: {line}"):
        VocFolder(str(root), test=0.0).parts()
    data = VocFolder(str(root), test=0.0, bad="skip")
    assert data.parts()["train"] == 1
    assert len(all_of(data, "train")) == 2
    assert any("left out: " in note and line in note for note in data.notes)


def test_other_layouts_and_damaged_files_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"nowhere: missing; put the folder"):
        VocFolder(str(tmp_path / "nowhere")).parts()
    (tmp_path / "empty").mkdir()
    with pytest.raises(Refusal, match=r"empty: no Annotations"):
        VocFolder(str(tmp_path / "empty")).parts()
    (root / "Annotations" / "a.xml").write_text("<annotation><object>")
    with pytest.raises(Refusal, match=r"a.xml: not valid XML"):
        VocFolder(str(root)).parts()
    write(root, "a", [])
    lists(root, train="a\nz\n")
    with pytest.raises(Refusal, match="of the name 'z', which a list of the split train has"):
        VocFolder(str(root)).parts()
    (root / "JPEGImages" / "b.png").write_bytes(b"no picture")
    lists(root, train="a\nb\n")
    with pytest.raises(Refusal, match=r"b.png: damaged or not a picture"):
        all_of(VocFolder(str(root)), "train")
    assert len(all_of(VocFolder(str(root), bad="skip"), "train")) == 1
    with pytest.raises(Refusal, match=r"the digest of its \d+ files is"):
        VocFolder(str(root), sha256="0" * 64).parts()


def test_preparation_refuses_or_lists_what_is_faulty(root: Path, tmp_path: Path) -> None:
    """Prepare pictures of which two have a faulty object each and one is damaged."""
    lists(root, train="a\nb\nc\nd\n", val="e\n", test="f\n")
    for name in "ef":
        write(root, name, [])
    for name in "abcd":
        write(root, name, [("cat", 5, 5, 5, 9, 0), ("dog", 1, 1, 9, 9, 0)] if name != "c" else [("cat", 1, 1, 9, 9, 0)])
    (root / "JPEGImages" / "b.png").write_bytes(b"no picture")
    line = r"a.xml: object 1: the box has x2 <= x1 \(5 <= 5\); correct it; .*b.png: damaged .*; or set bad: skip"
    with pytest.raises(Refusal, match=line):
        prepare_dataset(VocFolder(str(root), bad="refuse"), tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()
    review = prepare_dataset(VocFolder(str(root), bad="skip"), tmp_path / "out")["review"]
    assert any(re.match("1 example can't be read: .*b.png: damaged", sentence) for sentence in review)
    assert sum(sentence.startswith("1 example loses an object, ") for sentence in review) == 2


def test_names_that_lead_out_of_an_archive_are_skipped(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "voc.tar", "w") as archive:
        for name in ("../Annotations/evil.xml", "/Annotations/evil.xml", "x/../../Annotations/evil.xml"):
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"evil"))
    with pytest.raises(Refusal, match="no Annotations"):
        VocFolder(str(tmp_path / "voc.tar")).parts()


@pytest.mark.skipif(not REAL.is_file(), reason=f"{REAL} is not there")
def test_the_real_raccoons_have_the_published_counts() -> None:
    data = VocFolder(str(REAL), size=[64, 64])
    examples = [example for split in data.parts() for example in all_of(data, split)]
    assert len(examples) == 200
    assert sum(len(example["boxes"]) for example in examples) == 217
    assert len({tuple(example["geometry"][4:]) for example in examples}) == 133
    assert data.classes == ["raccoon"]


@pytest.mark.parametrize("size", ["<size/>", "<size><width>wide</width><height>20</height></size>"])
def test_a_size_that_is_no_number_does_not_matter(root: Path, size: str) -> None:
    file = root / "Annotations/a.xml"
    file.write_text(re.sub("<size>.*</size>", size, file.read_text()))
    (example,) = all_of(VocFolder(str(root), size=[20, 40]), "train")
    assert example["boxes"].tolist() == [[0, 0, 20, 10]]
