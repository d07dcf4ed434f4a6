"""The splits of a folder follow from seed and content or from its folders; new pictures do not move others."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.data.image_folder import ImageFolder
from components.errors import Refusal
from tests.components.data.small_pictures import flat, levels, save, splits_by_level, write_pets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_pets(tmp_path)


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


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("car", "train"):
        save(tmp_path / "vehicles" / name / "a.png", flat(1))
    assert ImageFolder(str(tmp_path / "vehicles")).classes == ["car", "train"]


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
