"""Find the encoding of a text file: UTF-8 and UTF-16 by their rules, others by their letters (charset-normalizer).

A file that gzip has packed is read as the text inside it.
"""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, cast

from ..errors import Refusal, first_line, printable
from ..files import open_regular

GZIP = b"\x1f\x8b"  # the first bytes of a packed file
PACKED = 8  # times that a packed text grows, about
BLOCK = 1 << 16  # bytes, or characters, that are read together
SAMPLE = 256 << 10  # bytes of the lines that are not ASCII
MARKS = {  # byte-order mark -> encoding
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
WESTERN = "cp1252"
TOLERANCE = 0.03  # of the mess that Windows-1252 may show more than the best guess, and is taken nevertheless


def read_text(file: Path, encoding: str | None = None) -> tuple[str, str]:
    """Return (text, encoding) of a file, without a byte-order mark; refuses bytes that the encoding lacks.

    encoding: of the file (None: it is detected).
    """
    name = encoding or detect_encoding(_read_blocks(file), file)
    return "".join(decode_file(file, name)), name


def decode_file(file: Path, encoding: str | None = None) -> Iterator[str]:
    """Yield the text of a file in pieces, without a byte-order mark; refuses bytes that the encoding lacks."""
    name = encoding or detect_encoding(_read_blocks(file), file)
    check_codec(name)
    decoder = codecs.getincrementaldecoder(name)()
    end = 0
    for number, block in enumerate(_with_end(_read_blocks(file))):
        end += len(block)
        try:
            piece = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            place = end - len(error.object) + error.start
            raise Refusal(
                f"{printable(file)}: byte {place} is not {name} ({error.reason}); set another encoding"
            ) from None
        yield piece if number else piece.removeprefix("\ufeff")


def check_codec(name: str) -> None:
    """Refuse an encoding that Python does not know, or that does not decode to text."""
    try:
        io.TextIOWrapper(io.BytesIO(), encoding=name)
    except (LookupError, ValueError):
        raise Refusal(f"encoding: '{name}' is not one that Python knows; name another, such as utf-8") from None


@contextmanager
def open_text(file: Path, encoding: str | None = None, newline: str = "") -> Iterator[tuple[IO[str], str]]:
    """Yield (the open text, encoding) of a file of any length; refuses bytes that the encoding lacks.

    newline: as of `open`; "" ends lines at LF, CR and CRLF, "\\n" at LF alone, and neither changes them.
    """
    name = encoding or detect_encoding(_read_blocks(file), file)
    without_mark = "utf-8-sig" if name.lower().replace("_", "-") in ("utf-8", "utf8") else name
    check_codec(name)
    try:
        with open_plain(file) as content, io.TextIOWrapper(content, without_mark, newline=newline) as text:
            yield text, name
    except UnicodeDecodeError as error:
        byte = f"byte 0x{error.object[error.start]:02x}" if error.start < len(error.object) else "the end"
        raise Refusal(f"{printable(file)}: {byte} is not {name} ({error.reason}); set another encoding") from None


@contextmanager
def open_plain(file: Path) -> Iterator[BinaryIO]:
    """Yield the open bytes of a file, unpacked where gzip has packed it; refuses a damaged one."""
    with open_regular(file) as content:
        is_packed = content.peek(len(GZIP))[: len(GZIP)] == GZIP
        try:
            yield cast(BinaryIO, gzip.GzipFile(fileobj=content)) if is_packed else content
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise Refusal(f"{printable(file)}: damaged ({first_line(error)}); replace it") from None


def text_bytes(file: Path) -> int:
    """Return the number of bytes of a text file, about if it is packed."""
    size = file.stat().st_size
    return PACKED * size if file.suffix.lower() == ".gz" else size


def _read_blocks(file: Path) -> Iterator[bytes]:
    """Yield the bytes of a file in blocks."""
    with open_plain(file) as content:
        while block := content.read(BLOCK):
            yield block


def _with_end(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the blocks that are not empty, then an empty one."""
    yield from filter(None, blocks)
    yield b""


def detect_encoding(data: bytes | Iterable[bytes], file: Path) -> str:
    """Return the encoding of a file's bytes, whole or in blocks; refuses bytes that look like no text."""
    start = rest = telling = b""
    decoder = codecs.getincrementaldecoder("utf-8")()
    is_utf8 = True
    for block in _with_end([data] if isinstance(data, bytes) else data):
        start = start or block[:SAMPLE]
        if is_utf8:
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError:
                is_utf8 = False
        if len(telling) < SAMPLE:
            lines, rest = _cut_lines(rest + block, is_last=not block)
            telling += b"".join(line + b"\n" for line in lines if not line.isascii())
    for mark, name in MARKS.items():
        if start.startswith(mark):
            return name
    if is_utf8:
        return "utf-8"
    from charset_normalizer import from_bytes

    matches = list(from_bytes(telling.removesuffix(b"\n")[:SAMPLE] if b"\0" not in start else start))
    if not matches:
        raise Refusal(f"{printable(file)}: is not text in any usual encoding; set its encoding, or replace the file")
    # Central European and DOS pages read western text nearly as well, but turn £ into Ł
    for match in matches:
        is_western = WESTERN in (match.encoding, *match.could_be_from_charset)
        if is_western and match.chaos <= matches[0].chaos + TOLERANCE and _is_single_byte(matches[0].encoding):
            return WESTERN
    return matches[0].encoding


def _cut_lines(data: bytes, is_last: bool) -> tuple[list[bytes], bytes]:
    """Return the complete lines of a stretch of a file, and what follows them; a very long line counts as complete."""
    if is_last or len(data) > SAMPLE:
        return data.splitlines(), b""
    complete, end, rest = data.rpartition(b"\n")
    return (complete + end).splitlines(), rest


def _is_single_byte(name: str) -> bool:
    """Return whether an encoding is of the Latin family that Windows-1252 is mistaken for."""
    return name.startswith(("cp1250", "cp125", "cp4", "cp7", "cp8", "hp_", "iso8859", "latin", "mac_"))


class Utf8Reader:
    """A text in the form of a binary file in UTF-8, for Arrow."""

    def __init__(self, text: IO[str]) -> None:
        self.text = text
        self.rest = b""
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes, fewer only at the end."""
        pieces, length = [self.rest], len(self.rest)
        while (size < 0 or length < size) and (piece := self.text.read(BLOCK).encode()):
            pieces.append(piece)
            length += len(piece)
        content = b"".join(pieces)
        self.rest = content[size:] if size >= 0 else b""
        return content[:size] if size >= 0 else content

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def close(self) -> None:
        """Do nothing: the text belongs to the caller."""
        self.closed = True
