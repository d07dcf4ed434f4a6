"""YOLO's text labels: boxes and outlines, classes, splits by folders and lists, and one clear line per fault."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.data.voc_folder import VocFolder
from components.data.yolo_folder import YoloFolder
from components.errors import Refusal
from components.storage.dataset import Fault, prepare_dataset
from components.storage.store import Store

REAL = Path(__file__).parents[4] / "shared" / "data" / "raccoon" / "raccoon.tar.gz"


def write(root: Path, picture: str, text: str | None, size: tuple[int, int] = (40, 20), **options: Any) -> None:
    """Write a picture, and its text file in the folder of labels."""
    file = root / picture
    file.parent.mkdir(parents=True, exist_ok=True)
    level = sum(picture.encode()) % 256
    Image.fromarray(np.full((size[1], size[0], 3), level, np.uint8)).save(file, **options)
    if text is not None:
        labels = root / picture.replace("images", "labels")
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.with_suffix(".txt").write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "owls"
    write(folder, "images/train/a.jpg", "1 0.25 0.5 0.5 1\n\n0 0.5 0.5 0.1 0.2\n")
    write(folder, "images/train/b.JPG", "1 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.5 0.5\n", (20, 40))
    write(folder, "images/train/empty.png", "")
    write(folder, "images/train/bare.png", None)
    write(folder, "images/val/c.jpg", "0 0.1 0.1 0.9 0.1 0.9 0.7 0.5 0.9\n")
    (folder / "data.yaml").write_text("path: ../x\ntrain: images/train\nval: images/val\nnames:\n  0: owl\n  1: cat\n")
    return folder


def examples_of(data: YoloFolder, split: str) -> list[dict[str, Any]]:
    """Return the examples of a split as `prepare` would: faults are refused, or left out."""
    examples = [example for part in range(data.parts()[split]) for example in data.examples(split, part)]
    for fault in examples:
        if isinstance(fault, Fault) and data.bad != "skip":
            raise Refusal(fault.reason)
    return [example for example in examples if not isinstance(example, Fault)]


def test_boxes_of_centres_and_outlines_are_in_the_letterbox(root: Path) -> None:
    data = YoloFolder(str(root), size=[40, 40])
    assert data.classes == ["owl", "cat"]
    a, b, bare, empty = examples_of(data, "train")
    assert np.allclose(a["boxes"], [[0, 10, 20, 30], [18, 18, 22, 22]])
    assert a["labels"].tolist() == [1, 0]
    assert np.allclose(b["boxes"], [[15, 10, 25, 30]])
    assert data.remarks == {"repeat a box, which counts once": 1}
    assert bare["boxes"].shape == empty["boxes"].shape == (0, 4)
    (c,) = examples_of(data, "test")  # val, because there is no test
    assert np.allclose(c["boxes"], [[4, 12, 36, 28]])
    assert data.notes == ["1 of 5 pictures has no text file and so no objects"]


def test_a_turned_picture_has_its_boxes_as_people_see_it(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    write(root, "images/train/a.jpg", "0 0.5 0.25 1 0.5", (40, 20), exif=exif)
    a = examples_of(YoloFolder(str(root), size=[40, 40]), "train")[0]
    assert np.allclose(a["boxes"], [[10, 0, 30, 20]])


def test_keypoints_after_a_box_are_passed_over(root: Path) -> None:
    write(root, "images/train/a.jpg", "0 0.5 0.5 0.2 0.2 0.1 0.1 2 0.3 0.3 2")
    (root / "data.yaml").write_text("names: [owl, cat]\nkpt_shape: [2, 3]\n")
    a = examples_of(YoloFolder(str(root), size=[40, 40]), "train")[0]
    assert np.allclose(a["boxes"], [[16, 18, 24, 22]])


def test_an_archive_of_folders_per_split_reads_like_its_folder(root: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        (root / split).mkdir()
        for kind in ("images", "labels"):
            (root / kind / split).rename(root / split / kind)
    with tarfile.open(tmp_path / "owls.tar.gz", "w:gz") as archive:
        archive.add(root, "owls")
    for number, path in enumerate((root, tmp_path / "owls.tar.gz")):
        prepare_dataset(YoloFolder(str(path), size=[32, 32]), tmp_path / f"out{number}")
    first, second = (Store(tmp_path / f"out{number}").manifest for number in range(2))
    assert first["digest"] == second["digest"]
    assert {split: entry["rows"] for split, entry in first["splits"].items()} == {"train": 4, "test": 1}


def test_lists_and_files_side_by_side(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path, f"obj_train_data/{number}.jpg", "0 0.5 0.5 0.5 0.5")
    (tmp_path / "obj.names").write_text("owl\n")
    (tmp_path / "train.txt").write_text("data/obj_train_data/0.jpg\nC:\\x\\obj_train_data\\1.jpg\n")
    (tmp_path / "test.txt").write_text("data/obj_train_data/2.jpg\n")
    data = YoloFolder(str(tmp_path))
    assert data.rows == {
        "train": ["obj_train_data/0.jpg", "obj_train_data/1.jpg"],
        "test": ["obj_train_data/2.jpg"],
    }
    assert data.classes == ["owl"]
    (tmp_path / "test.txt").write_text("data/obj_train_data/9.jpg\n")
    with pytest.raises(Refusal, match=r"test.txt: no picture of the name '9.jpg'; correct it, or set bad: skip"):
        YoloFolder(str(tmp_path)).parts()


def test_classes_come_from_a_list_or_are_numbers(root: Path) -> None:
    (root / "data.yaml").unlink()
    assert YoloFolder(str(root)).classes == ["0", "1"]
    (root / "labels" / "classes.txt").write_text("owl\ncat\n")
    assert YoloFolder(str(root)).classes == ["owl", "cat"]
    assert YoloFolder(str(root), classes=["x", "y"]).classes == ["x", "y"]
    assert len(YoloFolder(str(root)).parts()) == 2


FAULTS = {
    "owl 0.5 0.5 0.1 0.1": "'owl 0.5 0.5 0.1 0.1' is not a class and numbers",
    "0 0.5,0.5,0.1,0.1": "'0 0.5,0.5,0.1,0.1' is not a class and numbers",
    "0.5 0.5 0.5 0.1 0.1": "class 0.5 is not a whole number from 0",
    "-1 0.5 0.5 0.1 0.1": "class -1 is not a whole number from 0",
    "7 0.5 0.5 0.1 0.1": "class 7 is not one of the 2 named ones, 0 to 1",
    "0 0.5 0.5 0.1": "4 values are neither a class and a box",
    "0 0.5 0.5 0.1 0.1 0.9": "6 values are neither a class and a box",
    "0 nan 0.5 0.1 0.1": "a value that is not a finite number",
    "0 10 10 12 14": "the box 4, 3, 16, 17 is in pixels, not in shares of the picture from 0 to 1",
    "0 0.5 0.5 0 0.1": "the box 0.5, 0.45, 0.5, 0.55 has no area",
    "0 0.5 0.5 0.1 -0.1": "the box 0.45, 0.55, 0.55, 0.45 has no area",
    "0 0.9 0.5 0.4 0.1": "the box 0.7, 0.45, 1.1, 0.55 reaches beyond the picture",
    "\0": "is not a line of text",
}


@pytest.mark.parametrize("line", FAULTS)
def test_a_faulty_line_is_refused_or_left_out(root: Path, line: str) -> None:
    good = "" if line == "\0" else "1 0.5 0.5 0.5 0.5\n"
    write(root, "images/train/a.jpg", f"{good}{line}\n")
    place = f"{root}/labels/train/a.txt line {2 if good else 1}: {FAULTS[line]}"
    with pytest.raises(Refusal, match=re.escape(place)) as refusal:
        examples_of(YoloFolder(str(root)), "train")
    assert "\n" not in str(refusal.value)
    data = YoloFolder(str(root), bad="skip")
    assert len(examples_of(data, "train")[0]["boxes"]) == bool(good)
    assert any(remark.startswith(f"lose an object, {place}") for remark in data.remarks)


def test_what_does_not_fit_together_is_refused_in_one_line(root: Path, tmp_path: Path) -> None:
    def refused(text: str) -> None:
        with pytest.raises(Refusal, match=text) as refusal:
            prepare_dataset(YoloFolder(str(root)), tmp_path / "out")
        assert "\n" not in str(refusal.value)

    (root / "labels" / "train" / "z.txt").write_text("0 0.5 0.5 0.1 0.1")
    refused(r"labels/train/z.txt: boxes without a picture; correct it, or set bad: skip")
    assert "z.txt: boxes without a picture" in str(
        prepare_dataset(YoloFolder(str(root), bad="skip"), tmp_path / "skip")
    )
    (root / "labels" / "train" / "z.txt").unlink()
    write(root, "images/train/a.png", None)
    refused(r"images/train/a.jpg and .*images/train/a.png: both have the boxes of labels/train/a.txt; rename one")
    (root / "images" / "train" / "a.png").unlink()
    for text, line in (
        ("names: [owl, owl]", "two classes are called 'owl'"),
        ("names: [owl, cat]\nnc: 3", "nc: 3, but 2 names; correct the YAML file"),
        ("names: {0: owl, 2: cat}", "names: not a list of texts, or one per number from 0"),
        ("names: {a: owl}", "names: a key is not a number"),
        ("names: [owl, [cat]]", "names: not a list of texts"),
        ("names: [owl", "data.yaml: not valid YAML"),
    ):
        (root / "data.yaml").write_text(text)
        refused(line)
    (root / "data.yaml").write_text("names: [owl, cat]")
    (root / "other.yaml").write_text("names: [cat, owl]")
    refused("data.yaml and other.yaml name other classes; remove one of them")
    (root / "other.yaml").unlink()
    for file in root.rglob("*.txt"):
        file.unlink()
    refused("no picture has a text file of its name in labels/ or beside it; add them")


@pytest.mark.skipif(not REAL.is_file(), reason=f"the original file {REAL} is not there")
def test_real_pictures_have_the_boxes_of_their_voc_annotations(tmp_path: Path) -> None:
    """Write the annotations of raccoons as text labels, and compare what both data sets make of them."""
    voc = VocFolder(str(REAL), size=[96, 128])
    pictures = {split: names[:8] for split, names in voc.rows.items()}
    for name in (name for names in pictures.values() for name in names):
        file = tmp_path / "images" / Path(name).name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(voc.tree.read(name))
        with Image.open(file) as image:
            x1, y1, x2, y2 = np.asarray(voc.read_annotation(name).boxes).T / np.tile(image.size, 2)[:, None]
        lines = zip((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, strict=True)
        labels = tmp_path / "labels" / f"{file.stem}.txt"
        labels.parent.mkdir(exist_ok=True)
        labels.write_text("".join(f"0 {' '.join(f'{value:.6f}' for value in line)}\n" for line in lines))
    yolo = YoloFolder(str(tmp_path), size=[96, 128], classes=["raccoon"])
    for split, names in pictures.items():
        assert {Path(name).name for name in names} == {Path(name).name for name in yolo.rows[split]}
        expected = {Path(name).name: voc._read_example(name)[0] for name in names}
        for name in yolo.rows[split]:
            example, faults = yolo._read_example(name)
            assert not faults
            assert np.array_equal(example["image"], expected[Path(name).name]["image"])
            assert np.abs(example["boxes"] - expected[Path(name).name]["boxes"]).max() < 1e-3


def test_a_class_of_an_enormous_number_is_refused(root: Path) -> None:
    (root / "data.yaml").unlink()
    write(root, "images/train/a.jpg", "1e30 0.25 0.5 0.5 1\n")
    with pytest.raises(Refusal, match=r"has the class 1000\d+; at most 254 classes can be stored"):
        YoloFolder(str(root)).parts()
