"""Label pictures and one mask file per object: patterns, splits, values, and one clear line per fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.data.mask_folder import MaskFolder
from components.errors import Refusal
from components.storage.dataset import Fault

REAL = Path(__file__).parents[4] / "shared" / "data"
STREET = ["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"]


def save(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def all_of(data: MaskFolder, split: str) -> list[dict[str, Any]]:
    """Return the examples of a split as `prepare` would: faults are refused, or left out."""
    examples = [example for part in range(data.parts()[split]) for example in data.examples(split, part)]
    for fault in examples:
        if isinstance(fault, Fault) and data.bad != "skip":
            raise Refusal(fault.reason)
    return [example for example in examples if not isinstance(example, Fault)]


@pytest.fixture
def street(tmp_path: Path) -> Path:
    """Write two training pictures, a test picture and a validation picture with label pictures."""
    for number, (split, name) in enumerate((("train", "a"), ("train", "b"), ("test", "c"), ("val", "d"))):
        save(tmp_path / "set" / split / f"{name}.png", np.full((10, 20, 3), 40 * number, np.uint8))
        labels = np.zeros((10, 20), np.uint8)
        labels[:, 10:], labels[5:, :5] = 1, 11
        save(tmp_path / "set" / f"{split}annot" / f"{name}.png", labels)
    return tmp_path / "set"


def of_street(folder: Path, **arguments: Any) -> MaskFolder:
    patterns = {"pictures": "{split}/{name}.png", "masks": "{split}annot/{name}.png"}
    options = {"classes": ["sky", "road"], "ignored": [11], "size": [10, 20]} | patterns | arguments
    return MaskFolder(str(folder), **options)


def test_label_pictures_in_folders_of_splits(street: Path) -> None:
    data = of_street(street, size=[20, 20])
    assert {split: len(names) for split, names in data.rows.items()} == {"train": 2, "validation": 1, "test": 1}
    assert list(data.columns) == ["image", "geometry", "mask"]
    example = all_of(data, "train")[1]
    assert (example["image"][5:15] == 40).all()
    mask = example["mask"]
    assert (mask[5:15, 10:] == 2).all()
    assert (mask[5:10, :10] == 1).all()
    assert (mask[10:15, :5] == 255).all()
    assert (mask[:5] == 255).all()  # around the picture nothing is judged
    assert (mask[15:] == 255).all()
    background = all_of(of_street(street, background=[1], classes=["sky"]), "train")[0]["mask"]
    assert (background[:, 10:] == 0).all()


def test_one_mask_file_per_object(tmp_path: Path) -> None:
    """Check boxes, the index map and the mask; an object below a pixel of the letterbox vanishes."""
    for name in "ab":
        save(tmp_path / name / "images" / f"{name}.png", np.full((40, 40, 4), 255, np.uint8) - ord(name))
        for number, (rows, columns) in enumerate(((slice(0, 8), slice(4, 20)), (slice(20, 30), slice(30, 40)))):
            pixels = np.zeros((40, 40), np.uint8)
            pixels[rows, columns] = 255
            save(tmp_path / name / "masks" / f"{number}.png", pixels)
    tiny = np.zeros((40, 40), np.uint8)
    tiny[17, 0] = 255
    save(tmp_path / "a" / "masks" / "00.png", tiny)
    patterns = {"pictures": "{name}/images/{name}.png", "masks": "{name}/masks/*.png"}
    data = MaskFolder(str(tmp_path), ["cell"], **patterns, size=[20, 20], test=0.0)
    first, second = all_of(data, "train")
    for example in (first, second):
        assert example["boxes"].tolist() == [[2, 0, 10, 4], [15, 10, 20, 15]]
        assert example["labels"].tolist() == [0, 0]
        assert set(np.unique(example["instances"])) == {0, 1, 2}
        assert np.array_equal(example["mask"] == 1, example["instances"] > 0)
    full = MaskFolder(str(tmp_path), ["cell"], **patterns, size=[40, 40], test=0.0)
    assert [len(example["boxes"]) for example in all_of(full, "train")] == [3, 2]


def test_faults_of_masks_are_one_line(street: Path, tmp_path: Path) -> None:
    wrong = np.zeros((10, 20), np.uint8)
    wrong[0, 0] = 37
    save(street / "trainannot" / "a.png", wrong)
    line = r"trainannot/a.png: the mask has the label 37, which is outside the classes; correct it"
    with pytest.raises(Refusal, match=line):
        all_of(of_street(street), "train")
    save(street / "trainannot" / "a.png", np.zeros((10, 19), np.uint8))
    with pytest.raises(Refusal, match=r"trainannot/a.png: the mask has 19 x 10 pixels, the picture 20 x 10"):
        all_of(of_street(street), "train")
    skipping = of_street(street, bad="skip")
    assert len(all_of(skipping, "train")) == 1
    save(street / "trainannot" / "a.png", np.full((10, 20, 3), (200, 0, 0), np.uint8))
    with pytest.raises(Refusal, match=r"a.png: a label picture has one number per pixel, but its mode is RGB"):
        all_of(of_street(street), "train")


def test_a_picture_and_a_mask_need_each_other(street: Path) -> None:
    (street / "train" / "a.png").unlink()
    with pytest.raises(Refusal, match=r"trainannot/a.png: a mask without a picture"):
        of_street(street).parts()
    (street / "testannot" / "c.png").unlink()
    save(street / "trainannot" / "x.png", np.zeros((10, 20), np.uint8))
    data = of_street(street, bad="skip", test=0.0)
    assert {split: len(names) for split, names in data.rows.items()} == {"train": 1, "validation": 1}
    assert data.notes[0].startswith("3 left out: ")


def test_patterns_that_match_nothing_or_twice_are_refused(street: Path) -> None:
    with pytest.raises(Refusal, match="no picture matches the pattern"):
        of_street(street, pictures="photos/{name}.jpg").parts()
    with pytest.raises(Refusal, match=r"must have \{name\}"):
        of_street(street, masks="labels/*.png")
    save(street / "other" / "train" / "a.png", np.zeros((10, 20, 3), np.uint8))
    with pytest.raises(Refusal, match="has the same name as"):
        of_street(street).parts()


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the original files are not in {REAL}")
def test_the_real_streets_have_eleven_classes() -> None:
    data = of_street(REAL / "camvid" / "CamVid_105.tar", classes=STREET, size=[45, 60])
    assert {split: len(names) for split, names in data.rows.items()} == {"train": 60, "validation": 15, "test": 30}
    masks = np.stack([example["mask"] for split in data.parts() for example in all_of(data, split)])
    assert sorted(np.unique(masks)) == [*range(1, 12), 255]
    assert 0.25 < (masks == 4).mean() < 0.35  # the road


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"ignored": [65535]}, "values: 65535 is more than 32767"),
        ({"background": [32768]}, "values: 32768 is more than 32767"),
        ({"values": [1, 40000]}, "values: 40000 is more than 32767"),
        ({"first": 32767}, "values: 32768 is more than 32767"),
        ({"values": [7, 7]}, r"values: \[7, 7\] repeat a value"),
    ],
)
def test_values_that_no_label_picture_has_are_refused(street: Path, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(Refusal, match=f"^{says}"):
        of_street(street, **arguments)
