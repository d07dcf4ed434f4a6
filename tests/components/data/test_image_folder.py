"""A user's own pictures: files of many kinds, split by seed or by folder; damaged ones are refused by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from components.data import image_folder as module
from components.data.image_folder import ImageFolder
from components.data.picture import read_picture
from components.errors import Refusal
from components.storage.dataset import prepare_dataset
from components.storage.store import Store


def save(path: Path, pixels: np.ndarray, mode: str | None = None, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def flat(level: int, side: int = 8) -> np.ndarray:
    return np.full((side, side, 3), level, np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write 20 cats of levels 0..19, 10 dogs of levels 100..109, and files that folders tend to contain."""
    for i in range(20):
        save(tmp_path / "pets" / "cat" / f"deeper{i % 2}" / f"{i}.png", flat(i))
    for i in range(10):
        save(tmp_path / "pets" / "dog" / f"{i}.BMP", flat(100 + i))
    (tmp_path / "pets" / "dog" / "Thumbs.db").write_bytes(b"not a picture")
    (tmp_path / "pets" / "dog" / "._0.png").write_bytes(b"not a picture")
    (tmp_path / "pets" / ".cache").mkdir()
    return tmp_path / "pets"


def levels(data: ImageFolder, split: str) -> dict[int, int]:
    examples = [e for part in range(data.parts()[split]) for e in data.examples(split, part)]
    return {int(e["image"][0, 0, 0]): e["label"] for e in examples}


def splits_by_level(folder: Path, **arguments: Any) -> dict[int, str]:
    """Return {grey level: split} of all pictures."""
    data = ImageFolder(str(folder), size=8, **arguments)
    return {level: split for split in data.parts() for level in levels(data, split)}


def test_shares_are_held_out_and_seeds_differ(folder: Path) -> None:
    data = ImageFolder(str(folder), size=8, test=0.3, validation=0.2)
    assert data.classes == ["cat", "dog"]
    splits = {split: levels(data, split) for split in data.parts()}
    assert list(splits) == ["train", "validation", "test"]
    together = {level: label for rows in splits.values() for level, label in rows.items()}
    assert together == {**dict.fromkeys(range(20), 0), **dict.fromkeys(range(100, 110), 1)}
    assert sum(map(len, splits.values())) == 30
    assert levels(ImageFolder(str(folder), size=8, test=0.3, seed=1), "test").keys() != splits["test"].keys()
    assert levels(ImageFolder(str(folder), size=8, test=0.3), "test") == splits["test"]  # validation does not move it


def test_a_picture_keeps_its_split_when_others_come_go_and_change_names(tmp_path: Path) -> None:
    pets = tmp_path / "pets"
    for i in range(200):
        save(pets / ("cat" if i < 100 else "dog") / f"{i:03d}.png", flat(i))
    before = splits_by_level(pets, validation=0.1)
    counts = {split: list(before.values()).count(split) for split in ("train", "validation", "test")}
    assert all(abs(counts[split] - share) < 25 for split, share in (("train", 140), ("validation", 20), ("test", 40)))
    save(pets / "cat" / "000a.png", flat(250))
    grown = splits_by_level(pets, validation=0.1)
    assert grown.pop(250)
    assert grown == before
    for i in range(0, 200, 7):
        file = pets / ("cat" if i < 100 else "dog") / f"{i:03d}.png"
        file.rename(file.with_name(f"renamed {i}.png"))
    (pets / "dog" / "deeper").mkdir()
    (pets / "dog" / "199.png").rename(pets / "dog" / "deeper" / "a.png")
    removed = range(3, 200, 11)
    for i in removed:
        next(pets.rglob(f"*{i:03d}.png"), pets / "dog" / f"renamed {i}.png").unlink(missing_ok=True)
    changed = splits_by_level(pets, validation=0.1)
    assert 150 < len(changed) < 200
    assert {level: before[level] for level in changed if level != 250} == {
        level: split for level, split in changed.items() if level != 250
    }
    (pets / "dog").rename(pets / "hound")
    assert splits_by_level(pets, validation=0.1) == changed


def test_a_group_stays_together_whatever_its_class(tmp_path: Path) -> None:
    pets = tmp_path / "pets"
    for i in range(120):
        patient = f"patient {i // 3 % 20}"
        save(pets / ("ill" if i % 2 else "well") / patient / "visit 1" / f"{i}.png", flat(i))
    before = splits_by_level(pets, group=1)
    by_patient: dict[int, set[str]] = {}
    for level, split in before.items():
        by_patient.setdefault(level // 3 % 20, set()).add(split)
    assert len(by_patient) == 20
    assert all(len(splits) == 1 for splits in by_patient.values())
    assert set(before.values()) == {"train", "test"}
    for i in (200, 201):
        save(pets / "ill" / "patient 4" / f"{i}.png", flat(i))
    grown = splits_by_level(pets, group=1)
    assert {grown[200], grown[201]} == by_patient[4]
    assert {level: grown[level] for level in before} == before
    with pytest.raises(Refusal, match=r"ill/patient 4/200\.png: lies in no folder of level group: 2"):
        splits_by_level(pets, group=2)


def test_a_validation_split_of_the_training_folder_is_stable_too(folder: Path) -> None:
    pictures = folder.parent / "pictures"
    pictures.mkdir()
    folder.rename(pictures / "train")
    save(pictures / "test" / "dog" / "a.png", flat(200))
    before = splits_by_level(pictures, validation=0.3)
    save(pictures / "train" / "cat" / "000.png", flat(50))
    grown = splits_by_level(pictures, validation=0.3)
    assert set(before.values()) == {"train", "validation", "test"}
    assert {level: grown[level] for level in before} == before


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
        f"1 examples have the same content as one of another split: {pets}/test/cat/c.bmp (cat) = "
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


def test_existing_splits_are_used(folder: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    folder.rename(pictures / "train")
    save(pictures / "test" / "dog" / "a.png", flat(200))
    data = ImageFolder(str(pictures), size=8)
    assert levels(data, "test") == {200: 1}
    assert len(levels(data, "train")) == 30
    save(pictures / "test" / "fox" / "a.png", flat(200))
    with pytest.raises(Refusal, match="test/fox: train/ has no class of that name"):
        ImageFolder(str(pictures), size=8).parts()


@pytest.mark.parametrize("name", ["validation", "valid", "val"])
def test_a_validation_folder_has_three_names(folder: Path, name: str) -> None:
    pictures = folder.parent / "pictures"
    pictures.mkdir()
    folder.rename(pictures / "train")
    save(pictures / "test" / "dog" / "a.png", flat(200))
    save(pictures / name / "cat" / "a.png", flat(210))
    data = ImageFolder(str(pictures), size=8, validation=0.5)  # the share is not needed
    assert {split: len(levels(data, split)) for split in data.parts()} == {"train": 30, "validation": 1, "test": 1}
    assert levels(data, "validation") == {210: 0}


@pytest.mark.parametrize(
    "names",
    [
        *(["train"], ["val", "test"], ["train", "training"], ["cat", "dog", "test"], ["train", "val", "cat"]),
        *(["train", "test", "val", "valid"], ["train", "test", "Test"]),
    ],
)
def test_splits_are_not_taken_for_classes(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        save(tmp_path / "pets" / name / "cat" / "a.png", flat(1))
    like = ", ".join(sorted(set(names) - {"cat", "dog"}))
    with pytest.raises(Refusal, match=f"pets: {like}: folders of splits must be train with test or one of"):
        ImageFolder(str(tmp_path / "pets"))


def test_a_train_may_be_a_class(tmp_path: Path) -> None:
    for name in ("car", "train"):
        save(tmp_path / "vehicles" / name / "a.png", flat(1))
    assert ImageFolder(str(tmp_path / "vehicles")).classes == ["car", "train"]


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


RAMP = np.linspace(0, 255, 24 * 24, dtype=np.uint8).reshape(24, 24)
COLOURS = np.stack([RAMP, RAMP.T, 255 - RAMP], axis=2)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp", "ppm"])
def test_lossless_pictures_come_back(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", COLOURS, **({"lossless": True} if suffix == "webp" else {}))
    assert np.array_equal(read_picture(path, 24, colour=True), COLOURS)
    assert np.array_equal(
        read_picture(path, 24, colour=False)[..., 0], np.asarray(Image.fromarray(COLOURS).convert("L"))
    )


def test_a_photo_comes_back_nearly(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", COLOURS, quality=95, subsampling=0)
    assert np.abs(read_picture(path, 24, colour=True).astype(int) - COLOURS).max() < 12


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "LA", "RGBA", "I;16", "YCbCr"])
def test_odd_modes_become_grey_levels(tmp_path: Path, mode: str) -> None:
    """Read a picture that is black on the left and white on the right, in each mode."""
    halves = np.repeat([0, 255], 8).astype(np.uint8) * np.ones((16, 1), np.uint8)
    pixels = halves.astype(np.uint16) * 257 if mode == "I;16" else halves
    suffix = {"CMYK": "tiff", "YCbCr": "jpg"}.get(mode, "png")
    path = save(tmp_path / f"a.{suffix}", pixels, None if mode == "I;16" else mode)
    for colour in (True, False):
        levels = [0, 65535] if mode == "I;16" else None
        assert np.abs(read_picture(path, 16, colour, levels=levels).astype(int) - halves[..., None]).max() <= 2


def test_transparency_is_white(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, :4, 3] = 255
    path = save(tmp_path / "a.png", pixels)
    assert (read_picture(path, 8, colour=True) == np.repeat([0, 255], 4)[:, None]).all()
    palette = Image.fromarray(np.repeat([0, 1], 4).astype(np.uint8) * np.ones((8, 1), np.uint8), mode="P")
    palette.putpalette([9, 9, 9, 50, 60, 70])
    palette.save(tmp_path / "b.png", transparency=1)
    assert read_picture(tmp_path / "b.png", 8, colour=True)[0, [0, 7]].tolist() == [[9, 9, 9], [255, 255, 255]]


def test_the_middle_square_is_resized_smoothly(tmp_path: Path) -> None:
    """Compare with torch's antialiased bilinear interpolation of the same square."""
    wide = np.random.default_rng(0).integers(0, 256, (60, 100, 3), dtype=np.uint8)
    path = save(tmp_path / "a.png", wide)
    square = torch.from_numpy(wide[:, 20:80]).permute(2, 0, 1)[None].float()
    expected = torch.nn.functional.interpolate(square, (16, 16), mode="bilinear", antialias=True)[0].permute(1, 2, 0)
    assert np.abs(read_picture(path, 16, colour=True) - expected.numpy()).max() <= 1.5


def test_a_large_photo_is_decoded_at_a_fraction_and_upright(tmp_path: Path) -> None:
    tall = np.zeros((640, 320, 3), np.uint8)
    tall[:320] = 255  # white above, black below; stored turned, with the EXIF note to turn it back
    exif = Image.Exif()
    exif[274] = 6
    path = save(tmp_path / "a.jpg", np.rot90(tall).copy(), exif=exif)
    pixels = read_picture(path, 16, colour=False)[..., 0]
    assert pixels[:7].min() > 240
    assert pixels[9:].max() < 15


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
    with pytest.raises(Refusal, match=r"test: 0\.001 of 30 pictures is none"):
        ImageFolder(str(folder), test=0.001).parts()
    with pytest.raises(Refusal, match="nothing is left to train on"):
        ImageFolder(str(folder), test=0.5, validation=0.5).parts()


# ------------------------------------------------------------------------------------------------ odd files


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
        "1 examples are not square and lose what is outside the middle square (fit: crop)",
        "1 examples have several frames, of which the first is used",
    ]
    review = prepare_dataset(ImageFolder(str(folder), size=16, fit="pad"), tmp_path / "out")["review"]
    assert "31 examples have a side of less than 16 pixels and are enlarged" in review


def test_other_shapes_are_cut_padded_or_squashed(tmp_path: Path) -> None:
    wide = np.zeros((16, 32, 3), np.uint8)
    wide[:, 8:24] = 250
    wide[:, :8] = 120
    path = save(tmp_path / "a.png", wide)
    assert (read_picture(path, 16, colour=True) == 250).all()
    padded = read_picture(path, 16, colour=False, fit="pad")[..., 0]
    assert (padded[[0, 3, 12, 15]] == 0).all()
    assert padded[6, [0, 8]].tolist() == [120, 250]
    squashed = read_picture(path, 16, colour=False, fit="squash")[..., 0]
    assert squashed[[0, 15], 1].tolist() == [120, 120]
    assert squashed[8, 8] == 250
    thin = save(tmp_path / "b.png", np.full((1, 900, 3), 9, np.uint8))
    assert read_picture(thin, 16, colour=True, fit="pad").shape == (16, 16, 3)


@pytest.mark.parametrize(("dtype", "white"), [(np.uint16, 4095), (np.int32, 100_000), (np.float32, 2.0)])
def test_deep_pictures_need_the_levels_of_the_set(tmp_path: Path, dtype: type, white: float) -> None:
    ramp = np.linspace(0, white, 64).astype(dtype).reshape(8, 8)
    path = tmp_path / "a.tiff"
    Image.fromarray(ramp).save(path)
    with pytest.raises(Refusal, match=rf"a\.tiff: has more than 8 bits per pixel, and .* to {white:g}; set levels"):
        read_picture(path, 8, colour=False)
    expected = np.rint(ramp.astype(np.float64) * 255 / white)
    assert np.array_equal(read_picture(path, 8, colour=False, levels=[0, white])[..., 0], expected)
    with pytest.raises(Refusal, match=r"beyond levels: \[0, 1\]; widen them"):
        read_picture(path, 8, colour=False, levels=[0, 1])


def test_levels_are_checked(folder: Path) -> None:
    with pytest.raises(Refusal, match=r"levels: \[5, 1\] must be two numbers, black and white"):
        ImageFolder(str(folder), levels=[5, 1])


def test_sixteen_bits_per_colour_are_not_cut_silently(tmp_path: Path) -> None:
    import cv2

    dark = np.full((8, 8, 3), 4000, np.uint16)  # 12 bits in 16: the higher byte alone would be nearly black
    cv2.imwrite(str(tmp_path / "a.png"), dark)
    with pytest.raises(Refusal, match=r"has 16 bits per colour channel; save it with 8, or set levels: \[0, 65535\]"):
        read_picture(tmp_path / "a.png", 8, colour=True)
    assert (read_picture(tmp_path / "a.png", 8, colour=True, levels=[0, 65535]) == 4000 // 256).all()
    (tmp_path / "b.pgm").write_bytes(b"P5 8 8 4095\n" + np.full(64, 4095, ">u2").tobytes())
    assert (read_picture(tmp_path / "b.pgm", 8, colour=True) == 255).all()  # the header states the greatest level


@pytest.mark.filterwarnings("ignore:Metadata Warning")
def test_broken_metadata_do_not_matter(tmp_path: Path) -> None:
    """Save a rational with the denominator 0 and an orientation; Pillow fails where it writes such metadata again."""
    exif = Image.Exif()
    exif[274] = 3
    exif[282] = (72, 1)
    path = save(tmp_path / "a.jpg", np.repeat([0, 255], 32).astype(np.uint8) * np.ones((64, 1), np.uint8), exif=exif)
    intact = path.read_bytes()
    assert read_picture(path, 16, colour=False)[8, [2, 13], 0].tolist() == [255, 0]
    rational = b"\x00\x00\x00\x48\x00\x00\x00\x01"
    assert rational in intact or rational[3::-1] + rational[:3:-1] in intact
    for old, new in ((b"\x48\x00\x00\x00\x01\x00\x00\x00", bytes(8)), (b"\x00\x00\x00\x48", b"\xff\xff\xff\xff")):
        path.write_bytes(intact.replace(old, new))
        assert read_picture(path, 16, colour=False)[8, [2, 13], 0].tolist() == [255, 0]
    start = intact.index(b"Exif")
    path.write_bytes(intact[: start + 14] + b"\xff" * 12 + intact[start + 26 :])
    assert read_picture(path, 16, colour=False).shape == (16, 16, 1)


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


def test_a_test_split_is_drawn_from_train_or_is_val(tmp_path: Path) -> None:
    pets = tmp_path / "pets"
    for split, levels_of_split in (("Train", range(40)), ("val", range(100, 110))):
        for level in levels_of_split:
            save(pets / split / "cat" / f"{level}.png", flat(level))
    drawn = splits_by_level(pets)
    assert [level for level, split in drawn.items() if split == "validation"] == list(range(100, 110))
    assert 2 < list(drawn.values()).count("test") < 16
    used = splits_by_level(pets, val="test", validation=0.2)
    assert [level for level, split in used.items() if split == "test"] == list(range(100, 110))
    assert 2 < list(used.values()).count("validation") < 16
    assert "validation" not in splits_by_level(pets, val="test").values()


def test_labels_keep_equally_many_pictures_of_each_class(folder: Path) -> None:
    rows = levels(ImageFolder(str(folder), size=8, labels=7), "train")
    assert sorted(rows.values()) == [0] * 3 + [1] * 4
    everything = levels(ImageFolder(str(folder), size=8), "train")
    assert rows.items() <= everything.items()
    (folder / "cat" / "deeper0" / "0.png").rename(folder / "cat" / "zzz.png")
    assert levels(ImageFolder(str(folder), size=8, labels=7), "train") == rows
    with pytest.raises(Refusal, match="labels: 100 need 50 training pictures of class 'cat', which has"):
        ImageFolder(str(folder), size=8, labels=100).parts()
    with pytest.raises(Refusal, match="labels: 1 are fewer than the 2 classes"):
        ImageFolder(str(folder), labels=1)
