"""Archives: plain files with matching names are read in memory, within limits; damage is refused."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path

import pytest

from components.errors import Refusal
from components.originals.archive import read_members

PATTERN = re.compile(r"(?:.*/)?data/(\w+)\.txt")


def pack(path: Path, files: dict[str, bytes], kind: str = "w:gz") -> Path:
    with tarfile.open(path, kind) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("data/link.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return path


def read(path: Path, max_file: int = 100, max_total: int = 1 << 20) -> dict[str, bytes]:
    return {match[1]: content for match, content in read_members(path, PATTERN, max_file, max_total)}


@pytest.mark.parametrize("kind", ["w", "w:gz", "w:bz2", "w:xz"])
def test_only_matching_files_are_read(tmp_path: Path, kind: str) -> None:
    files = {"x/data/a.txt": b"A", "./data/b.txt": b"BB", "data/c.pkl": b"no", "data/../../d.txt": b"no"}
    assert read(pack(tmp_path / "a", files, kind)) == {"a": b"A", "b": b"BB"}


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = pack(tmp_path / "a", {"other": bytes(64 << 20), "data/a.txt": b"A"})
    assert bomb.stat().st_size < 1 << 20
    with pytest.raises(Refusal, match="unpacks to more than 1 MB"):
        read(bomb)
    with pytest.raises(Refusal, match=r"data/a.txt has 101 bytes"):
        read(pack(tmp_path / "b", {"data/a.txt": bytes(101)}))


def test_damage_is_named(tmp_path: Path) -> None:
    path = pack(tmp_path / "a", {"data/a.txt": bytes(range(99))}, "w:xz")
    intact = path.read_bytes()
    half = intact[: len(intact) // 2]
    for broken in (half, intact[:40] + b"\xff" * 9 + intact[49:], b"nothing"):
        path.write_bytes(broken)
        with pytest.raises(Refusal, match="damaged or not an archive"):
            read(path)
