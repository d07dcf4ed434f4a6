"""Read files from a tar archive in memory: nothing is unpacked onto the disk, so no name can leave a folder.

Sizes are bounded, because an archive of a few kilobytes can expand to any size.
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
    path: Path, pattern: re.Pattern[str], max_file: int, max_total: int
) -> Iterator[tuple[re.Match[str], bytes]]:
    """Yield (match, content) of each plain file whose full name matches `pattern`; links and devices are skipped.

    max_file, max_total: limits in bytes for one such file and for the unpacked archive. Refuses an archive that exceeds
    them or is damaged.
    """
    with _refusing_damage(path):
        for match, file in _open_members(path, pattern, max_file, max_total):
            yield match, file.read()


def read_pieces(
    path: Path, pattern: re.Pattern[str], max_file: int, max_total: int, size: int
) -> Iterator[tuple[re.Match[str], bytes]]:
    """Yield each file of `read_members` in pieces of `size` bytes, the last one shorter; one piece is in memory."""
    with _refusing_damage(path):
        for match, file in _open_members(path, pattern, max_file, max_total):
            while piece := file.read(size):
                yield match, piece


def combined_digest(digests: Mapping[str, str]) -> str:
    """Return the SHA-256 over file names and their SHA-256s, sorted by name: the same however they were packed."""
    sha256 = hashlib.sha256()
    for name in sorted(digests):
        sha256.update(f"{name} {digests[name]}\n".encode())
    return sha256.hexdigest()


def _open_members(
    path: Path, pattern: re.Pattern[str], max_file: int, max_total: int
) -> Iterator[tuple[re.Match[str], IO[bytes]]]:
    """Yield (match, open file) of each plain file whose full name matches `pattern`."""
    total = 0
    with tarfile.open(path) as archive:
        for member in archive:
            # tarfile would keep every header in memory, but each is needed only once
            archive.members.clear()  # type: ignore[attr-defined]
            total += member.size
            if total > max_total:
                raise Refusal(f"{path}: unpacks to more than {max_total >> 20} MB; take the original archive")
            match = pattern.fullmatch(member.name)
            if match is None or not member.isfile():
                continue
            if member.size > max_file:
                raise Refusal(f"{path}: {member.name} has {member.size:,} bytes; take the original archive")
            file = archive.extractfile(member)
            if file is not None:
                yield match, file


@contextmanager
def _refusing_damage(path: Path) -> Iterator[None]:
    """Turn the errors of a damaged archive into a refusal."""
    try:
        yield
    except (tarfile.TarError, OSError, EOFError, zlib.error, LZMAError) as error:
        raise Refusal(f"{path}: damaged or not an archive ({error}); take the original archive") from None
