"""Files inside a tar archive, read in memory: nothing is unpacked onto the disk, so no name leads out of a folder.

What an archive may make of itself is bounded: a few kilobytes can announce, and expand to, any size.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path
from typing import IO

from ..errors import Refusal


def read_members(
    path: Path, wanted: re.Pattern[str], largest: int, whole: int
) -> Iterator[tuple[re.Match[str], bytes]]:
    """(match, content) of each plain file whose whole name matches `wanted`; links and devices are passed over.

    largest, whole: bytes that one file, and the archive unpacked, may have. Refuses what is more, or damaged.
    """
    with _intact(path):
        for match, inside in _opened(path, wanted, largest, whole):
            yield match, inside.read()


def read_pieces(
    path: Path, wanted: re.Pattern[str], largest: int, whole: int, size: int
) -> Iterator[tuple[re.Match[str], bytes]]:
    """As `members`, each file in pieces of `size` bytes, the last one shorter: one piece is in memory at a time."""
    with _intact(path):
        for match, inside in _opened(path, wanted, largest, whole):
            while piece := inside.read(size):
                yield match, piece


def combined_digest(digests: Mapping[str, str]) -> str:
    """SHA-256 over files' names and SHA-256s, in the order of the names: however they were packed."""
    whole = hashlib.sha256()
    for name in sorted(digests):
        whole.update(f"{name} {digests[name]}\n".encode())
    return whole.hexdigest()


def _opened(path: Path, wanted: re.Pattern[str], largest: int, whole: int) -> Iterator[tuple[re.Match[str], IO[bytes]]]:
    size = 0
    with tarfile.open(path) as archive:
        for member in archive:
            archive.members.clear()  # type: ignore[attr-defined]  # it would keep all, and they are passed once
            size += member.size
            if size > whole:
                raise Refusal(f"{path}: unpacks to more than {whole >> 20} MB; take the original archive")
            match = wanted.fullmatch(member.name)
            if match is None or not member.isfile():
                continue
            if member.size > largest:
                raise Refusal(f"{path}: {member.name} has {member.size:,} bytes; take the original archive")
            if (inside := archive.extractfile(member)) is not None:
                yield match, inside


@contextmanager
def _intact(path: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, OSError, EOFError, zlib.error, LZMAError) as error:
        raise Refusal(f"{path}: is no whole archive ({error}); take the original") from None
