"""Check that JSON files are replaced atomically, and what the digests of files and folders depend on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.files import bytes_digest, path_digest, write_json


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "new folder" / "a.json"
    write_json(file, {"a": 1})
    with pytest.raises(TypeError):
        write_json(file, {"a": object()})
    assert json.loads(file.read_text()) == {"a": 1}
    assert list(file.parent.iterdir()) == [file]


def test_bytes_digest_depends_on_names_and_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    digests = set()
    for name, content in (("a", b"1"), ("a", b"2"), ("inner/a", b"2")):
        for file in folder.rglob("a"):
            file.unlink()
        (folder / name).write_bytes(content)
        digests.add(bytes_digest(folder))
    assert len(digests) == 3
    assert bytes_digest(folder / "inner/a") not in digests
    (tmp_path / "moved").mkdir()
    assert bytes_digest(folder.rename(tmp_path / "moved" / "folder")) in digests, "the place does not matter"


def test_path_digest_of_prepared_data_is_that_of_their_manifest(tmp_path: Path) -> None:
    (tmp_path / "train-000.arrow").write_bytes(b"a")
    assert path_digest(tmp_path) == bytes_digest(tmp_path)
    splits = {"train": {"parts": [{"file": "train-000.arrow"}]}}
    write_json(tmp_path / "manifest.json", {"digest": "ab", "splits": splits})
    (tmp_path / "statistics.json").write_text("{}")
    (tmp_path / "train-contents.npy").write_bytes(b"digests of the rows")
    assert path_digest(tmp_path) == "ab"


@pytest.mark.parametrize("file", ["model.json", "0/model.json", "weights.safetensors"])
@pytest.mark.parametrize("listed", [False, True])
def test_a_manifest_in_a_folder_of_other_files_is_not_believed(tmp_path: Path, file: str, listed: bool) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("{}")
    splits = {"train": {"parts": [{"file": file}] if listed else []}}
    write_json(tmp_path / "manifest.json", {"digest": "ab", "splits": splits})
    assert path_digest(tmp_path) == bytes_digest(tmp_path)
    write_json(tmp_path / "manifest.json", {"digest": "ab"})
    assert path_digest(tmp_path) == bytes_digest(tmp_path)
