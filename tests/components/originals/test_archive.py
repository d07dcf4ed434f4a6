"""Archives: plain files with matching names are read in memory, within limits; damage is refused."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import re
import tarfile
import tracemalloc
from collections.abc import Callable
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


def raw_header(name: str, size: bytes, kind: bytes = b"0") -> bytes:
    """Return a header of 512 bytes whose field `size` (12 bytes) is written as it is."""
    block = bytearray(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT))
    block[124:136] = size
    block[156:157] = kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def octal(number: int) -> bytes:
    return b"%011o\0" % number


NEGATIVE = b"\xff" * 10 + (-512 & 0xFFFF).to_bytes(2, "big")
END = bytes(1024)


@pytest.mark.parametrize("kind", ["x", "g", "L", "K"])
def test_a_large_header_is_refused_before_it_is_read(tmp_path: Path, kind: str) -> None:
    """A header is no file: its size must count as well, and must not be read to be counted."""
    path = tmp_path / "a"
    path.write_bytes(gzip.compress(raw_header("h", octal(64 << 20), kind.encode()) + bytes(64 << 20) + END))
    assert path.stat().st_size < 1 << 17
    assert peak_of(lambda: refuse(path, "announces 67,108,864 bytes", max_total=128 << 20)) < 4 << 20


def test_many_small_headers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    pax = b"512 comment=".ljust(511, b"x") + b"\n"
    path.write_bytes(gzip.compress((raw_header("h", octal(512), b"x") + pax) * 4000 + END))
    refuse(path, "a header announces", max_total=64 << 20)


@pytest.mark.parametrize("kind", ["0", "1", "5", "x", "L", "S"])
def test_a_negative_size_is_refused(tmp_path: Path, kind: str) -> None:
    """Such a file points back at its own header: reading it never ends."""
    path = tmp_path / "a"
    first = raw_header("other", octal(0))
    path.write_bytes(first + raw_header("data/a.txt", NEGATIVE, kind.encode()) + bytes(2048) + END)
    refuse(path, "damaged or not an archive")


def test_bytes_before_the_end_mark_count_and_none_after_it_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    skipped = raw_header("other", octal(1 << 20)) + bytes(1 << 20)
    path.write_bytes(gzip.compress(skipped + END + bytes(64 << 20)))
    assert read(path, max_total=(1 << 20) + 2048) == {}
    refuse(path, "unpacks to more than 1 MB", max_total=1 << 20)


def test_a_sparse_file_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a"
    header = bytearray(raw_header("data/a.txt", octal(0), b"S"))
    header[386 + 24 * 4 + 1 : 386 + 24 * 4 + 13] = octal(50)  # the size with its holes
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path.write_bytes(bytes(header) + raw_header("data/b.txt", octal(1)) + b"B".ljust(512, b"\0") + END)
    assert read(path) == {"b": b"B"}


def test_a_large_xz_dictionary_is_refused(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 192 << 20}]
    path = tmp_path / "a"
    with lzma.open(path, "wb", filters=filters) as file:
        file.write(raw_header("data/a.txt", octal(0)) + END)
    refuse(path, "Memory usage limit exceeded")


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    refuse(tmp_path / "a", "is not a regular file")


def refuse(path: Path, message: str, max_total: int = 1 << 20) -> None:
    with pytest.raises(Refusal, match=message):
        read(path, max_total=max_total)


def peak_of(action: Callable[[], None]) -> int:
    """Return the bytes that Python allocated at most during `action`."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
