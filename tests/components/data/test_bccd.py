"""BCCD: a small archive packed in several ways, and the original one where it is available."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.data.bccd import BCCD, content_digest
from components.errors import Refusal

REAL = Path(__file__).parents[4] / "shared" / "data"
BOX = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
CELLS = {  # name -> (class, x1, y1, x2, y2, counted from 1 as in VOC)
    "a": [("RBC", 1, 1, 320, 240), ("Platelets", 601, 441, 640, 480), ("RBC", 504, 337, 504, 337)],
    "b": [("WBC", 101, 51, 300, 250)],
    "c": [],
    "d": [("RBC", 11, 11, 20, 20)],
}
SPLITS = {"train": "a\nd\n", "val": "b\n", "test": "c\n", "trainval": "a\nb\nd\n"}


def jpeg(left_level: int, right_level: int) -> bytes:
    """Return a picture whose halves have one grey level each."""
    pixels = np.full((480, 640, 3), left_level, np.uint8)
    pixels[:, 320:] = right_level
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()


def originals() -> dict[str, bytes]:
    files = {f"ImageSets/Main/{split}.txt": names.encode() for split, names in SPLITS.items()}
    for number, (name, cells) in enumerate(CELLS.items()):
        objects = "".join(f"<object><name>{kind}</name>{BOX.format(*box)}</object>" for kind, *box in cells)
        files[f"Annotations/{name}.xml"] = f"<annotation>{objects}</annotation>".encode()
        files[f"JPEGImages/{name}.jpg"] = jpeg(20 + 40 * number, 200)
    return files


def pack(raw: Path, files: dict[str, bytes], prefix: str = "BCCD/", kind: str = "w:gz") -> BCCD:
    (raw / "bccd").mkdir(parents=True, exist_ok=True)
    with tarfile.open(raw / "bccd" / "BCCD.tar.gz", kind) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{prefix}{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return BCCD(str(raw))


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pack(tmp_path, originals())
    monkeypatch.setattr(BCCD, "sha256", content_digest(originals()))
    return tmp_path


def all_of(data: BCCD, split: str) -> list[dict]:
    return [example for part in range(data.parts()[split]) for example in data.examples(split, part)]


def test_boxes_are_pixels_with_an_exclusive_end_and_empty_ones_are_dropped(raw: Path) -> None:
    data = BCCD(str(raw))
    assert data.parts() == {"train": 1, "validation": 1, "test": 1}
    first, last = all_of(data, "train")
    assert first["boxes"].tolist() == [[0, 0, 320, 240], [600, 440, 640, 480]]
    assert [data.classes[label] for label in first["labels"]] == ["RBC", "Platelets"]
    assert last["boxes"].tolist() == [[10, 10, 20, 20]]
    (empty,) = all_of(data, "test")
    assert empty["boxes"].shape == (0, 4)
    assert empty["labels"].shape == (0,)
    assert all(e["boxes"].dtype == np.float32 and e["labels"].dtype == np.int64 for e in (first, last, empty))
    assert first["image"].shape == (480, 640, 3)
    assert abs(int(first["image"][100, 100, 0]) - 20) <= 2
    assert abs(int(first["image"][100, 500, 0]) - 200) <= 2


def test_pictures_and_boxes_are_scaled_together(raw: Path) -> None:
    data = BCCD(str(raw), size=160)
    (example,) = all_of(data, "validation")
    assert example["image"].shape == (120, 160, 3) == data.columns["image"].shape
    assert example["boxes"].tolist() == [[25, 12.5, 75, 62.5]]
    assert np.abs(example["image"][:, :78].astype(int) - 60).max() <= 3
    assert np.abs(example["image"][:, 82:].astype(int) - 200).max() <= 3
    assert len(all_of(BCCD(str(raw), count=1), "train")) == 1
    with pytest.raises(Refusal, match="size: 641 is more than"):
        BCCD(str(raw), size=641)


@pytest.mark.parametrize(
    ("prefix", "kind"), [("BCCD_Dataset-master/BCCD/", "w:gz"), ("./BCCD/", "w:xz"), ("BCCD/", "w")]
)
def test_it_does_not_matter_how_it_is_packed(raw: Path, prefix: str, kind: str) -> None:
    shuffled = dict(sorted(originals().items(), key=lambda item: item[0][::-1]))
    data = pack(raw, shuffled, prefix, kind)
    assert len(all_of(data, "train")) == 2


def test_nothing_is_written_and_nothing_else_is_read(raw: Path, tmp_path: Path) -> None:
    """Check that members whose names lead out of the folder, and links, are skipped."""
    file = raw / "bccd" / "BCCD.tar.gz"
    with tarfile.open(file, "w:gz") as archive:
        for name, content in originals().items():
            member = tarfile.TarInfo(f"BCCD/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name in ("../../evil.txt", "/tmp/evil.xml", "BCCD/Annotations/../../../evil.xml", "weights.pkl"):
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"evil"))
        link = tarfile.TarInfo("BCCD/Annotations/passwd.xml")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    before = sorted(tmp_path.rglob("*"))
    data = BCCD(str(raw))
    assert len(all_of(data, "train")) == 2
    assert data.files.keys() == originals().keys()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_missing_broken_or_other_archive_is_refused(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"nowhere/bccd/BCCD.tar.gz: missing; save https://github.com/Shenggan"):
        BCCD(str(tmp_path / "nowhere")).parts()
    with pytest.raises(Refusal, match="the digest of its 12 files is"):
        pack(raw, originals() | {"Annotations/a.xml": b"<annotation></annotation>"}).parts()
    file = raw / "bccd" / "BCCD.tar.gz"
    intact = file.read_bytes()
    half = len(intact) // 2
    for broken in (intact[:half], intact[:half] + b"\xff" * 50 + intact[half + 50 :], b"no archive"):
        file.write_bytes(broken)
        with pytest.raises(Refusal, match="damaged or not an archive"):
            BCCD(str(raw)).parts()


@pytest.mark.skipif(not (REAL / "bccd").is_dir(), reason=f"the original archive is not in {REAL}")
def test_the_real_archive_has_the_published_counts_minus_two() -> None:
    data = BCCD(str(REAL), size=64)
    examples = {split: all_of(data, split) for split in data.parts()}
    assert {split: len(rows) for split, rows in examples.items()} == {"train": 205, "validation": 87, "test": 72}
    labels = np.concatenate([example["labels"] for rows in examples.values() for example in rows])
    assert dict(zip(data.classes, np.bincount(labels).tolist(), strict=True)) == {
        "RBC": 4155 - 2,
        "WBC": 372,
        "Platelets": 361,
    }
    assert data.notes == ["2 of 4,888 boxes have no area and are left out"]
    boxes = np.concatenate([example["boxes"] for rows in examples.values() for example in rows])
    assert (boxes >= 0).all()
    assert (boxes <= [64, 48, 64, 48]).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
