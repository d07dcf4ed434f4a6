"""CIFAR from small archives in the original format; the JPEG tree packed in several ways, and the original one."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.data import cifar, cifar_jpeg
from components.data.cifar import CIFAR10, CIFAR100
from components.data.cifar_jpeg import CIFAR10JPEG
from components.errors import Refusal
from components.originals.archive import combined_digest
from components.storage.dataset import prepare_dataset
from components.storage.moments import compute_moments
from components.storage.store import Store
from components.storage.subset import Subset

REAL = Path(__file__).parents[4] / "shared" / "data"
ROWS = 30  # per file
Files = dict[str, bytes]


def pack(path: Path, files: Files, kind: str = "w:gz") -> str:
    """Write an archive and return its MD5."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, kind) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return hashlib.md5(path.read_bytes()).hexdigest()


def draw_rows(data: type[CIFAR10], files: list[str]) -> dict[str, np.ndarray]:
    """Return {file: rows of random labels and pixels, uint8 [ROWS, labels + 3072]}."""
    generator = np.random.default_rng(len(files))
    rows = {file: generator.integers(0, 256, (ROWS, data.labels_per_row + 3072), dtype=np.uint8) for file in files}
    for content in rows.values():
        content[:, data.labels_per_row - 1] = generator.permutation(np.arange(ROWS) % 10)
        content[:, : data.labels_per_row - 1] = 19
    return rows


@pytest.fixture
def ten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Publish an archive in tmp_path/cifar10 with files in another order, and strangers; return the files' rows."""
    monkeypatch.setattr(cifar, "BLOCK", 7)
    monkeypatch.setattr(cifar, "ROWS_PER_PART", 64)
    rows = draw_rows(CIFAR10, [*CIFAR10.files["train"], *CIFAR10.files["test"]])
    packed = {f"cifar-10-batches-bin/{file}": content.tobytes() for file, content in reversed(rows.items())}
    strangers = {
        "cifar-10-batches-bin/batches.meta.txt": b"airplane\n",
        "../data_batch_1.bin": b"evil",
        "../../cifar-10-batches-bin/data_batch_1.bin": b"evil",
        "cifar-10-batches-bin/../../data_batch_1.bin": b"evil",
        "/cifar-10-batches-bin/data_batch_1.bin": b"evil",
    }
    publish(tmp_path, monkeypatch, strangers | packed)
    return rows


def publish(raw: Path, monkeypatch: pytest.MonkeyPatch, files: Files, data: type[CIFAR10] = CIFAR10) -> None:
    """Pack `files` and make their digest the published one."""
    ((name, (address, _)),) = data.originals.items()
    monkeypatch.setattr(data, "originals", {name: (address, pack(raw / data.name / name, files))})


def all_of(data: CIFAR10 | CIFAR10JPEG, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the pictures [N, 32, 32, 3] and labels [N] of a split."""
    examples = [example for part in range(data.parts()[split]) for example in data.examples(split, part)]
    assert all(example["image"].dtype == np.uint8 for example in examples)
    return np.stack([example["image"] for example in examples]), np.array([example["label"] for example in examples])


def test_pictures_and_labels_are_the_bytes_written_in_the_files_order(ten: dict, tmp_path: Path) -> None:
    data = CIFAR10(str(tmp_path))
    assert data.parts() == {"train": 3, "test": 1}
    for split, files in CIFAR10.files.items():
        expected = np.concatenate([ten[file] for file in files])
        images, labels = all_of(data, split)
        assert labels.tolist() == expected[:, 0].tolist()
        for row, pixels in enumerate(expected[:, 1:]):
            red, green, blue = (pixels[1024 * channel :][:1024].reshape(32, 32) for channel in range(3))
            assert np.array_equal(images[row], np.dstack([red, green, blue]))
    assert not list(tmp_path.rglob("*.bin")), "nothing is unpacked"


def test_classes_labels_and_validation_are_the_shared_subset(ten: dict, tmp_path: Path) -> None:
    arguments = {"classes": [8, 0, 3], "labels": 12, "seed": 4, "validation": 6}
    data = CIFAR10(str(tmp_path), **arguments)
    subset = Subset(CIFAR10.names, **arguments)
    assert data.classes == ["ship", "airplane", "cat"]
    training = np.concatenate([ten[file] for file in CIFAR10.files["train"]])
    for split, count in {"train": 12, "validation": 6}.items():
        rows, expected = subset.select_rows(training[:, 0], split)
        images, labels = all_of(data, split)
        assert labels.tolist() == expected.tolist()
        assert np.bincount(labels).tolist() == [count / 3] * 3
        assert np.array_equal(images, training[rows, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        assert np.array_equal(training[rows, 0], np.array([8, 0, 3])[labels])
    assert len(all_of(data, "test")[1]) == ROWS * 3 / 10


def test_the_manifest_names_source_and_licence(ten: dict, tmp_path: Path) -> None:
    manifest = prepare_dataset(CIFAR10(str(tmp_path), labels=20), tmp_path / "out")
    assert manifest["name"] == "cifar10"
    assert "Krizhevsky" in manifest["source"]
    assert "none stated" in manifest["licence"]
    assert manifest["splits"]["train"]["class_counts"] == dict.fromkeys(CIFAR10.names, 2)
    Store(tmp_path / "out").verify()


def test_a_hundred_classes_or_twenty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len({*cifar.FINE}) == 100
    assert sorted(cifar.FINE) == cifar.FINE
    assert len({*cifar.COARSE}) == 20
    rows = draw_rows(CIFAR100, ["train.bin", "test.bin"])
    rows["train.bin"][3, :2] = 19, 99
    files = {f"cifar-100-binary/{file}": content.tobytes() for file, content in rows.items()}
    publish(tmp_path, monkeypatch, files, CIFAR100)
    for data, column in ((CIFAR100(str(tmp_path)), 1), (CIFAR100(str(tmp_path), coarse=True), 0)):
        images, labels = all_of(data, "train")
        assert labels.tolist() == rows["train.bin"][:, column].tolist()
        assert np.array_equal(images[3].transpose(2, 0, 1).reshape(-1), rows["train.bin"][3, 2:])
    assert CIFAR100(coarse=True, classes=[19, 1]).classes == ["vehicles_2", "fish"]
    assert CIFAR100(classes=[99, 1]).classes == ["worm", "aquarium_fish"]
    with pytest.raises(Refusal, match="different numbers from 0 to 19"):
        CIFAR100(coarse=True, classes=[20])


def truncate(files: Files) -> Files:
    return files | {"cifar-10-batches-bin/data_batch_2.bin": files["cifar-10-batches-bin/data_batch_2.bin"][:-1]}


def mislabel(files: Files) -> Files:
    content = bytearray(files["cifar-10-batches-bin/data_batch_2.bin"])
    content[17 * 3073] = 10
    return files | {"cifar-10-batches-bin/data_batch_2.bin": bytes(content)}


def drop_a_file(files: Files) -> Files:
    return {name: content for name, content in files.items() if "data_batch_5" not in name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (truncate, r"data_batch_2.bin does not consist of rows of 3073 bytes; take the original"),
        (mislabel, r"data_batch_2.bin: row 17 has label 10, the last class is 9; take the original"),
        (drop_a_file, r"contains no cifar-10-batches-bin/data_batch_5.bin; take the original"),
    ],
)
def test_damaged_files_are_refused(
    ten: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Files], Files], message: str
) -> None:
    files = {f"cifar-10-batches-bin/{file}": content.tobytes() for file, content in ten.items()}
    publish(tmp_path, monkeypatch, change(files))
    with pytest.raises(Refusal, match=message) as refusal:
        CIFAR10(str(tmp_path)).parts()
    assert "\n" not in str(refusal.value)


def test_a_cut_off_or_another_archive_is_refused(ten: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "cifar10" / "cifar-10-binary.tar.gz"
    half = file.read_bytes()[: file.stat().st_size // 2]
    file.write_bytes(half)
    with pytest.raises(Refusal, match=r"cifar-10-binary.tar.gz: its digest is \w+, expected \w+; replace it"):
        prepare_dataset(CIFAR10(str(tmp_path)), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(CIFAR10, "originals", {file.name: ("", hashlib.md5(half).hexdigest())})
    with pytest.raises(Refusal, match="damaged or not an archive"):
        CIFAR10(str(tmp_path)).parts()


def test_an_archive_that_unpacks_to_too_much_is_refused(
    ten: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar, "MAX_FILE", ROWS * 3073 - 1)
    with pytest.raises(Refusal, match=r"has 92,190 bytes; take the original"):
        CIFAR10(str(tmp_path)).parts()


# ------------------------------------------------------------------------------------------------ the JPEG tree


def jpeg(level: int, side: int = 32) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), level, np.uint8)).save(file, "JPEG", quality=95)
    return file.getvalue()


def tree() -> Files:
    """Return three training and two test pictures of each class; the grey level tells class and number."""
    return {
        f"{split}/{name}/{number:04}.jpg": jpeg(20 * label + 3 * number + 60 * (split == "test"))
        for split, count in (("train", 3), ("test", 2))
        for label, name in enumerate(CIFAR10.names)
        for number in range(count)
    }


def levels(data: CIFAR10JPEG, split: str) -> list[tuple[int, int]]:
    images, labels = all_of(data, split)
    return [(round(float(image.mean())), int(label)) for image, label in zip(images, labels, strict=True)]


@pytest.fixture
def jpegs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in tree().items()}
    monkeypatch.setattr(CIFAR10JPEG, "sha256", combined_digest(digests))
    monkeypatch.setattr(cifar_jpeg, "ROWS_PER_PART", 8)
    return tmp_path


@pytest.mark.parametrize(
    ("prefix", "suffix", "kind"),
    [("", ".tar.xz", "w:xz"), ("CIFAR-10-images-master/", ".tar.gz", "w:gz"), ("./", ".tar", "w"), ("", None, "")],
)
def test_it_does_not_matter_how_the_tree_is_packed(jpegs: Path, prefix: str, suffix: str | None, kind: str) -> None:
    shuffled = dict(sorted(tree().items(), key=lambda item: item[0][::-1]))
    folder = jpegs / "cifar10-jpeg"
    if suffix is None:
        for name, content in shuffled.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    else:
        pack(folder / f"cifar10-jpeg{suffix}", {f"{prefix}{name}": content for name, content in shuffled.items()}, kind)
    data = CIFAR10JPEG(str(jpegs))
    assert data.parts() == {"train": 4, "test": 3}
    assert levels(data, "train") == [(20 * label + 3 * number, label) for label in range(10) for number in range(3)]
    some = CIFAR10JPEG(str(jpegs), classes=[9, 1], labels=2, validation=2)
    assert some.classes == ["truck", "automobile"]
    assert levels(some, "test") == [(80, 1), (83, 1), (240, 0), (243, 0)]
    apart = {*levels(some, "train")}, {*levels(some, "validation")}
    assert [sorted(label for _, label in split) for split in apart] == [[0, 1], [0, 1]]
    assert not apart[0] & apart[1]


def test_a_tree_that_leads_elsewhere_or_lacks_a_picture(jpegs: Path) -> None:
    file = jpegs / "cifar10-jpeg" / "cifar10-jpeg.tar.xz"
    strangers = ("../train/cat/0000.jpg", "train/cat/../../../evil.jpg", "/train/cat/0000.jpg", "train/cow/0000.jpg")
    pack(file, dict.fromkeys(strangers, b"evil") | tree(), "w:xz")
    before = sorted(jpegs.rglob("*"))
    assert len(levels(CIFAR10JPEG(str(jpegs)), "train")) == 30
    assert sorted(jpegs.rglob("*")) == before
    pack(file, dict(list(tree().items())[1:]), "w:xz")
    with pytest.raises(Refusal, match=r"the digest of its 49 pictures is \w+, expected \w+; save https"):
        CIFAR10JPEG(str(jpegs)).parts()
    file.unlink()
    with pytest.raises(Refusal, match=r"neither an archive cifar10-jpeg\.tar\.xz nor folders train and test"):
        CIFAR10JPEG(str(jpegs)).parts()


@pytest.mark.parametrize(
    ("content", "message"), [(b"text", "is damaged or not a picture"), (jpeg(9, 31), r"is \(31, 31\), not")]
)
def test_a_file_that_is_not_a_picture_of_the_set_is_named(
    jpegs: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    files = tree() | {"train/bird/0001.jpg": content}
    pack(jpegs / "cifar10-jpeg" / "cifar10-jpeg.tar.xz", files, "w:xz")
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    monkeypatch.setattr(CIFAR10JPEG, "sha256", combined_digest(digests))
    with pytest.raises(Refusal, match=rf"train/bird/0001.jpg {message}"):
        all_of(CIFAR10JPEG(str(jpegs)), "train")


@pytest.mark.skipif(not (REAL / "cifar10-jpeg").is_dir(), reason=f"the original archive is not in {REAL}")
def test_the_real_tree_has_the_published_counts_and_mean(tmp_path: Path) -> None:
    everything = CIFAR10JPEG(str(REAL))
    for split, count in {"train": 5000, "test": 1000}.items():
        assert np.bincount(everything._original_labels(split)).tolist() == [count] * 10
    some = CIFAR10JPEG(str(REAL), labels=5000)
    some.files = everything.files  # read once
    prepare_dataset(some, tmp_path)
    statistics = compute_moments(Store(tmp_path).split("train"), 0, 1).finish()
    assert statistics["mean"] == pytest.approx([0.491, 0.482, 0.447], abs=0.005)  # of all 50,000, as published
    assert statistics["std"] == pytest.approx([0.245, 0.243, 0.261], abs=0.005)
