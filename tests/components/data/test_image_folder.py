"""A user's own pictures are prepared in parts; damaged, repeated and foreign files are refused or listed by name."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.data import image_folder as module
from components.data.image_folder import ImageFolder
from components.errors import Refusal
from components.storage.dataset import prepare_dataset
from components.storage.store import Store
from tests.components.data.small_pictures import flat, save, splits_by_level, write_pets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_pets(tmp_path)


def test_the_same_picture_in_two_splits_or_classes_is_named_by_its_files(tmp_path: Path) -> None:
    """Save the same pixels under other bytes, so that the hash of the files can't keep them together."""
    pets = tmp_path / "pets"
    for split, name, level in (
        ("train", "a.png", 7),
        ("train", "b.png", 8),
        ("test", "c.bmp", 7),
        ("test", "d.png", 9),
    ):
        save(pets / split / "cat" / name, flat(level))
    manifest = prepare_dataset(ImageFolder(str(pets), size=8), tmp_path / "out")
    assert [entry["rows"] for entry in manifest["splits"].values()] == [1, 2]
    assert manifest["review"] == [
        f"1 example has the same content as one of another split: {pets}/test/cat/c.bmp (cat) = "
        f"{pets}/train/cat/a.png (cat); dropped"
    ]
    assert "review" in prepare_dataset(ImageFolder(str(pets), size=8, duplicates="allow"), tmp_path / "allowed")
    assert len(Store(tmp_path / "allowed").split("train")) == 2
    save(pets / "train" / "dog" / "e.bmp", flat(8))
    save(pets / "test" / "dog" / "f.bmp", flat(90))
    with pytest.raises(
        Refusal, match=r"pets: 2 examples .* different labels: .*/cat/b\.png \(cat\) = .*/dog/e\.bmp \(dog\)"
    ):
        prepare_dataset(ImageFolder(str(pets), size=8), tmp_path / "out")


def test_it_can_be_prepared_in_parts(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ROWS_PER_PART", 7)
    data = ImageFolder(str(folder), size=5, colour=False)
    sizes = {split: len(files) for split, files in data.splits.items()}
    assert data.parts() == {split: -(-size // 7) for split, size in sizes.items()}
    manifest = prepare_dataset(data, tmp_path / "out")
    assert manifest["name"] == "pets"
    counts = [split["class_counts"] for split in manifest["splits"].values()]
    assert {name: sum(count[name] for count in counts) for name in ("cat", "dog")} == {"cat": 20, "dog": 10}
    assert Store(tmp_path / "out").split("train").array("image").shape == (sizes["train"], 5, 5, 1)


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "float"])
def test_a_damaged_picture_is_refused_by_name(folder: Path, tmp_path: Path, damage: str) -> None:
    bad = folder / "dog" / ("3.BMP" if damage != "float" else "3.tiff")
    if damage == "float":
        Image.fromarray(np.zeros((4, 4), np.float32)).save(bad)
    else:
        intact = bad.read_bytes()
        bad.write_bytes({"cut": intact[: len(intact) // 2], "empty": b"", "text": b"hello"}[damage])
    with pytest.raises(Refusal, match=r"dog/3\.(BMP|tiff): (damaged or not a picture|has more than 8 bits)"):
        prepare_dataset(ImageFolder(str(folder), size=8), tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_empty_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="none is not a folder"):
        ImageFolder(str(tmp_path / "none"))
    with pytest.raises(Refusal, match="contains no folders"):
        ImageFolder(str(folder / "dog"))
    (folder / "fox").mkdir()
    with pytest.raises(Refusal, match="pets/fox: no picture in this class"):
        ImageFolder(str(folder)).parts()
    (folder / "fox").rmdir()
    with pytest.raises(Refusal, match=r"test: 0\.001 of 30 pictures gives an empty split"):
        ImageFolder(str(folder), test=0.001).parts()
    with pytest.raises(Refusal, match="leaves nothing to train on"):
        ImageFolder(str(folder), test=0.5, validation=0.5).parts()


def test_all_bad_pictures_are_listed_at_once_or_skipped_and_listed(folder: Path, tmp_path: Path) -> None:
    for name in ("cat/deeper0/4.png", "dog/3.BMP", "dog/7.BMP"):
        (folder / name).write_bytes(b"")
    with pytest.raises(Refusal) as refused:
        prepare_dataset(ImageFolder(str(folder), size=8), tmp_path / "out")
    text = str(refused.value)
    assert text.startswith("pets: 3 examples can't be read: ")
    assert all(name in text for name in ("deeper0/4.png: damaged", "dog/3.BMP: damaged", "dog/7.BMP: damaged"))
    assert text.endswith("or set bad: skip")
    manifest = prepare_dataset(ImageFolder(str(folder), size=8, bad="skip"), tmp_path / "out")
    assert sum(entry["rows"] for entry in manifest["splits"].values()) == 27
    assert any(sentence.startswith("3 examples can't be read") for sentence in manifest["review"])


def test_a_duplicate_after_a_skipped_picture_is_named_by_its_own_file(tmp_path: Path) -> None:
    pets = tmp_path / "pets"
    for split, name, level in (("train", "b.png", 7), ("train", "c.png", 8), ("test", "d.bmp", 8)):
        save(pets / split / "cat" / name, flat(level))
    (pets / "train" / "cat" / "a.png").write_bytes(b"")
    manifest = prepare_dataset(ImageFolder(str(pets), size=8, bad="skip"), tmp_path / "out")
    assert "test/cat/d.bmp (cat) = " in manifest["review"][-1]
    assert "train/cat/c.png (cat); dropped" in manifest["review"][-1]
    assert manifest["splits"]["train"]["rows"] == 1


def test_what_is_passed_over_cut_or_enlarged_is_counted(folder: Path, tmp_path: Path) -> None:
    save(folder / ".ipynb_checkpoints" / "0-checkpoint.png", flat(0))
    save(folder / "dog" / ".ipynb_checkpoints" / "0-checkpoint.png", flat(100))
    save(folder / "dog" / "wide.png", np.full((20, 30, 3), 77, np.uint8))
    for name in ("a.heic", "b.HEIC", "notes.txt"):
        (folder / "dog" / name).write_bytes(b"x")
    frames = [Image.fromarray(flat(level)) for level in (200, 210)]
    frames[0].save(folder / "dog" / "moving.gif", save_all=True, append_images=frames[1:])
    manifest = prepare_dataset(ImageFolder(str(folder), size=8), tmp_path / "out")
    assert manifest["classes"] == ["cat", "dog"]
    assert manifest["review"] == [
        "2 files in folders called .ipynb_checkpoints passed over",
        "files of other kinds passed over: 2 .heic, 1 .txt",
        "1 example is not square and loses what is outside the middle square (fit: crop)",
        "1 example has several frames, of which the first is used",
    ]
    review = prepare_dataset(ImageFolder(str(folder), size=16, fit="pad"), tmp_path / "out")["review"]
    assert "31 examples have a side of less than 16 pixels and are enlarged" in review


def test_levels_are_checked(folder: Path) -> None:
    with pytest.raises(Refusal, match=r"levels: \[5, 1\] must be two numbers, black and white"):
        ImageFolder(str(folder), levels=[5, 1])


def test_other_suffixes_of_jpeg_are_read(folder: Path) -> None:
    save(folder / "dog" / "a.jfif", flat(200), format="JPEG")
    assert sum(len(files) for files in ImageFolder(str(folder), size=8).splits.values()) == 31


def test_names_that_are_not_utf8_are_refused(folder: Path) -> None:
    odd = Path(os.fsdecode(bytes(folder / "dog") + b"/caf\xe9.png"))
    save(folder / "dog" / "a.png", flat(3)).rename(odd)
    with pytest.raises(Refusal, match=r"dog/caf\\xe9\.png: names that are not UTF-8, which DVC cannot record"):
        ImageFolder(str(folder), size=8).parts()


def test_links_to_files_are_followed_and_links_to_folders_refused(folder: Path, tmp_path: Path) -> None:
    save(tmp_path / "elsewhere" / "a.png", flat(230))
    (folder / "dog" / "linked.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    assert 230 in splits_by_level(folder)
    (folder / "dog" / "broken.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(Refusal, match=r"dog/broken\.png: missing, or a link to nothing"):
        prepare_dataset(ImageFolder(str(folder), size=8), tmp_path / "out")
    (folder / "dog" / "more").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refusal, match="dog/more: links to folders, behind which changes are not noticed"):
        ImageFolder(str(folder), size=8).parts()
