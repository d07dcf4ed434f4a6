"""Bad pictures, original files, arguments of data sets and prepared data.

Some input is repaired instead of refused: odd picture modes (test_picture_pixels.py), boxes without an area
(test_bccd.py).
"""

from __future__ import annotations

import gzip
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.originals import fetch, idx
from components.recipes import recipe
from components.storage import dataset
from components.storage.store import Column, Store
from components.training.peers import Peers
from pipelines.workers import preparation
from tests.bad_input.case import Call, Case, Setup, case_id, check_case

PHOTOS = {"use": "data.photos.Photos"}
DIGITS = {"use": "data.digits.Digits"}
FOLDER = {"use": "data.image_folder.ImageFolder"}
TEXT = {"use": "data.text.Text", "of": {"use": "data.manual.Manual"}}
BEGINS = "not an idx file"
HEADER = b"\0\0\x08"  # of an idx file of bytes
LABELLED = {"image": Column("uint8", (2, 2, 1)), "label": Column("int64")}
GREY = np.zeros((2, 2, 1), np.uint8)
Change = Callable[[Path], Any]  # damages files in a folder


# ------------------------------------------------------------------------------------------------ what is refused


def prepare(section: dict[str, Any], change: Change = lambda folder: None) -> Setup:
    """Preparation of a recipe's section `data`."""

    def setup(folder: Path) -> Call:
        change(folder)
        return lambda: preparation.write_data_sets(Peers(), {"out": section}) and 0

    return setup


def pictures(change: Change = lambda folder: None, count: int = 4, **arguments: Any) -> Setup:
    """Preparation of a folder `pictures` of two classes."""

    def write_pictures(folder: Path) -> None:
        for green, name in enumerate(("cat", "dog")):
            (folder / "pictures" / name).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (8, 8), (number, green, 0)).save(folder / "pictures" / name / f"{number}.png")
        change(folder / "pictures")

    return prepare({**FOLDER, "folder": "pictures", "size": 8, **arguments}, write_pictures)


def read_idx(content: bytes, packed: bool = True) -> Setup:
    """Reading of an idx file."""

    def setup(folder: Path) -> Call:
        (folder / "a.gz").write_bytes(gzip.compress(content) if packed else content)
        return lambda: idx.read_array("a.gz")

    return setup


def example_of(columns: dict[str, Column], example: dict[str, Any], classes: list[str]) -> Setup:
    """Preparation of a user's own data set of one example."""

    class Own:
        name, licence, source = "own", "CC0", "here"

        def parts(self) -> dict[str, int]:
            return {"train": 1}

        def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
            yield example

    Own.columns, Own.classes = columns, classes  # type: ignore[attr-defined]
    return lambda folder: lambda: dataset.prepare_dataset(Own(), folder / "out")  # type: ignore[arg-type]


def prepared(change: Change) -> Setup:
    """Verification of prepared digits that were damaged."""

    def setup(folder: Path) -> Call:
        dataset.prepare_dataset(recipe.build({**DIGITS, "labels": 100, "size": 8}, dataset.Dataset), folder / "data")
        change(folder / "data")
        return lambda: Store("data").verify()

    return setup


def download(folder: Path) -> Call:
    """Download from an address where no server listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return lambda: fetch.fetch_file(
        "raw", "a.gz", f"http://127.0.0.1:{port}/a.gz", "0" * 32, wait_s=0, from_loopback=True
    )


def read_changed_original(folder: Path) -> Call:
    (folder / "raw").mkdir()
    (folder / "raw" / "a.txt").write_text("another text")
    return lambda: fetch.fetch_file("raw", "a.txt", "http://127.0.0.1/a.txt", "0" * 64)


# ------------------------------------------------------------------------------------------------ damage


def overwrite(file: str, content: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / file).write_bytes(content)


def truncate(pattern: str) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        (file,) = folder.glob(pattern)
        file.write_bytes(file.read_bytes()[:-100])

    return change


def flip_bit(pattern: str) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        (file,) = folder.glob(pattern)
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)

    return change


def write_half_picture(folder: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "cat" / "half.jpg")
    (folder / "cat" / "half.jpg").write_bytes((folder / "cat" / "half.jpg").read_bytes()[:400])


def write_bomb(folder: Path) -> None:
    Image.new("1", (20000, 20000)).save(folder / "cat" / "bomb.png")


def remove_pictures(folder: Path) -> None:
    for file in (folder / "dog").iterdir():
        file.unlink()


def write_empty_split(folder: Path) -> None:
    for split in ("train", "test", "validation"):
        (folder / split / "cat").mkdir(parents=True)
        if split != "validation":
            Image.new("L", (8, 8), len(split)).save(folder / split / "cat" / "0.png")


def write_unknown_class(folder: Path) -> None:
    for split in ("train", "test"):
        for name in ("cat", "dog") if split == "train" else ("cat", "cow"):
            (folder / split / name).mkdir(parents=True)
            Image.new("L", (8, 8)).save(folder / split / name / "0.png")


CASES = [
    # a user's own pictures
    Case("no folder", prepare({**FOLDER, "folder": "nowhere"}), "folder: nowhere is not a folder"),
    Case("no classes", prepare({**FOLDER, "folder": "p"}, lambda f: (f / "p").mkdir()), "p: contains no folders"),
    Case("a class without a picture", pictures(remove_pictures), "pictures/dog: no picture in this class"),
    Case("no picture inside", pictures(overwrite("cat/x.png", b"no picture")), "cat/x.png: damaged or not a picture"),
    Case("an empty file", pictures(overwrite("cat/x.jpg", b"")), "pictures/cat/x.jpg: damaged or not a picture"),
    Case("half a picture", pictures(write_half_picture), "pictures/cat/half.jpg: damaged or not a picture"),
    Case("a decompression bomb", pictures(write_bomb), "pictures/cat/bomb.png: too many pixels"),
    Case(
        "pixels without a range",
        pictures(lambda f: Image.new("F", (8, 8)).save(f / "cat" / "x.tiff")),
        "x.tiff: has more than 8 bits per pixel, and its pixels range from 0 to 0; set levels",
    ),
    Case("an empty test split", pictures(count=2, test=0.01), "test: 0.01 of 4 pictures gives an empty split"),
    Case("nothing left to train on", pictures(test=0.5, validation=0.5), "validation: leaves nothing to train on"),
    Case(
        "a class that training lacks",
        prepare({**FOLDER, "folder": "given", "size": 8}, lambda f: write_unknown_class(f / "given")),
        "given/test/cow: train/ has no class of that name",
    ),
    Case(
        "a split that is given, and empty",
        prepare({**FOLDER, "folder": "given", "size": 8}, lambda f: write_empty_split(f / "given")),
        "given: split 'validation' has no example; add some, or leave the split out",
    ),
    # original files
    Case("a file that was changed", read_changed_original, "raw/a.txt: its digest is"),
    Case("nobody to download from", download, "raw/a.gz: missing, and the download failed"),
    Case("a missing archive", prepare({"use": "data.bccd.BCCD"}), "data/raw/bccd/BCCD.tar.gz: missing"),
    Case(
        "no archive",
        prepare(
            {"use": "data.bccd.BCCD"},
            lambda f: [(f / "data/raw/bccd").mkdir(parents=True), overwrite("data/raw/bccd/BCCD.tar.gz", b"x")(f)],
        ),
        "BCCD.tar.gz: damaged or not an archive",
    ),
    Case("a photo that is not there", prepare({**PHOTOS, "content": "me.jpg"}), "me.jpg: no such picture"),
    Case(
        "a photo that is none",
        prepare(
            {"use": "data.photos.Photos", "content": "me.jpg"},
            lambda f: [(f / "data/raw/photos").mkdir(parents=True), overwrite("data/raw/photos/me.jpg", b"x")(f)],
        ),
        "me.jpg: damaged or not a picture",
    ),
    Case("an idx file of nothing", read_idx(b""), BEGINS),
    Case("another kind of file", read_idx(b"\x89PNG\r\n\x1a\n"), BEGINS),
    Case("no gzip", read_idx(HEADER, packed=False), "a.gz: damaged (Not a gzipped file"),
    Case("an idx header cut off", read_idx(HEADER + b"\2\0\0\0\1"), "a.gz: damaged (4 bytes short)"),
    Case("an idx file cut off", read_idx(HEADER + b"\1\0\0\0\3ab"), "a.gz: damaged (1 bytes short)"),
    Case("more than announced", read_idx(HEADER + b"\1\0\0\0\2abc"), "a.gz: has more than the 2 rows"),
    Case("rows of any size", read_idx(HEADER + b"\2\0\0\0\1\xff\xff\xff\xff"), "a.gz: announces rows of 4,294,967,295"),
    Case("an array of nothing", read_idx(HEADER + b"\1\0\0\0\0"), "a.gz: announces an empty array"),
    # what a data set may ask for
    Case("more labels than there are", prepare({**DIGITS, "labels": 5000}), "5000 of 1797 digits"),
    Case("none left to test on", prepare({**DIGITS, "labels": 900, "validation": 897}), "leave none to"),
    Case("a text without a start", prepare({**TEXT, "validation": 0.5, "test": 0.5}), "leave no text to train on"),
    Case("a window longer than the text", prepare({**TEXT, "limit": 200}), "too few for a window of 32 + 1"),
    Case("scenes too small", prepare({"use": "data.scenes.Scenes", "size": 4}), "size: digits in scenes of 4 pixels"),
    Case("too many digits", prepare({"use": "data.scenes.Scenes", "most": 270}), "a scene can't have 270 different"),
    Case("a style of no picture", prepare({**PHOTOS, "styles": []}), "styles: name at least one"),
    # a data set that somebody wrote
    Case("a label out of range", example_of(LABELLED, {"image": GREY, "label": 7}, ["a", "b"]), "labels 7 to 7, but 2"),
    Case("negative label", example_of(LABELLED, {"image": GREY, "label": -1}, ["a"]), "labels -1 to -1, but 1 class"),
    Case("another shape", example_of(LABELLED, {"image": GREY[:1], "label": 0}, ["a"]), "column 'image' must be"),
    Case("a column too few", example_of(LABELLED, {"image": GREY}, ["a"]), "the data set declares image, label"),
    Case("a number for a string", example_of({"text": Column("utf8")}, {"text": 3}, []), "must be a string, not int"),
    # prepared data
    Case("no manifest", prepared(lambda f: (f / "manifest.json").unlink()), "data: contains no manifest.json"),
    Case("a damaged manifest", prepared(overwrite("manifest.json", b"{")), "manifest.json: not a valid manifest"),
    Case("a part cut off", prepared(truncate("train-000.arrow")), "data/train-000.arrow: "),
    Case("a flipped bit", prepared(flip_bit("train-000.arrow")), "data/train-000.arrow: SHA-256 is"),
    Case("a part taken away", prepared(lambda f: (f / "train-000.arrow").unlink()), "this part of split"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_bad_input_gets_one_line_and_exit_code_2(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    check_case(case, tmp_path, capsys)
