"""Read files from a tar archive in memory: nothing is unpacked onto the disk, so no name can leave a folder.

An archive of a few kilobytes can expand to any size. So limits apply to the decompressed stream: all bytes count,
headers and skipped files included.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from ..errors import Refusal
from ..files import open_regular

MAX_HEADER = 64 << 10  # bytes between two files; common headers have 512 to 2,048
MAX_XZ_MEMORY = 128 << 20  # bytes; xz -9 needs 65 MiB
PIECE = 64 << 10  # bytes


def read_members(
    path: Path, pattern: re.Pattern[str], max_file: int, max_total: int
) -> Iterator[tuple[re.Match[str], bytes]]:
    """Yield (match, content) of each plain file whose full name matches `pattern`.

    Links, devices and sparse files are skipped. max_file, max_total: limits in bytes for one such file and for the
    unpacked archive. Refuses an archive that exceeds them or is damaged.
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
    with open_regular(path) as file:
        stream = _BoundedStream(_decompress(file), path, max_total)
        stream.allow(MAX_HEADER)
        archive: Any  # type checkers do not know its list of members
        with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r:") as archive:
            while (member := archive.next()) is not None:
                # tarfile would keep every header in memory, but each is needed only once
                archive.members.clear()
                archive.pax_headers.clear()
                if member.size < 0:
                    raise tarfile.ReadError(f"{member.name} has {member.size} bytes")
                match = pattern.fullmatch(member.name)
                if match is not None and member.isfile() and not member.issparse():
                    if member.size > max_file:
                        raise Refusal(f"{path}: {member.name} has {member.size:,} bytes; take the original archive")
                    content = archive.extractfile(member)
                    if content is not None:
                        stream.allow(member.size)
                        yield match, content
                stream.allow(MAX_HEADER)


class _BoundedStream:
    """A stream that can only be read forward, up to `limit` bytes in all, and between two calls of `allow` up to fewer.

    tarfile reads a header at once, whatever size it announces. The size is therefore checked before it is read.
    """

    def __init__(self, file: Any, path: Path, limit: int) -> None:
        self.file = file
        self.path = path
        self.limit = limit
        self.position = 0
        self.allowance = 0

    def allow(self, size: int) -> None:
        """Set the number of bytes that may be read from here on; skipped bytes do not count."""
        self.allowance = size

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer at the end."""
        if not 0 <= size <= self.allowance:
            raise tarfile.ReadError(f"a header announces {size:,} bytes")
        self._check_limit(size if size > PIECE else 0)
        self.allowance -= size
        data: bytes = self.file.read(size)
        self.position += len(data)
        self._check_limit(0)
        return data

    def seek(self, position: int, whence: int = 0) -> int:
        """Skip to `position`; raise ReadError if it lies before the current one."""
        if position < self.position or whence:
            raise tarfile.ReadError("a header points back")
        self._check_limit(position - self.position)
        while self.position < position:
            data = self.file.read(min(PIECE, position - self.position))
            if not data:
                raise tarfile.ReadError("unexpected end of data")
            self.position += len(data)
        return self.position

    def tell(self) -> int:
        """Return the number of bytes read and skipped."""
        return self.position

    def seekable(self) -> bool:
        """Return True: `extractfile` asks for it and only seeks forward."""
        return True

    def _check_limit(self, more: int) -> None:
        if self.position + more > self.limit:
            raise Refusal(f"{self.path}: unpacks to more than {self.limit >> 20} MB; take the original archive")


def _decompress(file: BinaryIO) -> Any:
    """Return a stream of the uncompressed content of `file`, whatever its name says."""
    magic = file.read(6)
    file.seek(0)
    if magic.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file)
    if magic.startswith(b"BZh"):
        return bz2.BZ2File(file)
    if magic == b"\xfd7zXZ\0":
        return _XZFile(file)
    return file


class _XZFile:
    """A stream of an xz file whose header cannot ask for more memory than MAX_XZ_MEMORY."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, MAX_XZ_MEMORY)

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer at the end; raise EOFError if the file ends early."""
        pieces = []
        while size and not self.decompressor.eof:
            packed = self.file.read(PIECE) if self.decompressor.needs_input else b""
            if self.decompressor.needs_input and not packed:
                raise EOFError("the file ends early")
            pieces.append(self.decompressor.decompress(packed, size))
            size -= len(pieces[-1])
        return b"".join(pieces)


@contextmanager
def _refusing_damage(path: Path) -> Iterator[None]:
    """Turn the errors of a damaged archive into a refusal."""
    try:
        yield
    except (tarfile.TarError, OSError, EOFError, zlib.error, LZMAError, ValueError, LookupError) as error:
        raise Refusal(f"{path}: damaged or not an archive ({error}); take the original archive") from None
