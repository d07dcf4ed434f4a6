"""Find the encoding of a text file: UTF-8 and UTF-16 by their rules, others by their letters (charset-normalizer)."""

from __future__ import annotations

import codecs
from pathlib import Path

from ..errors import Refusal, printable
from ..files import open_regular

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
    with open_regular(file) as content:
        data = content.read()
    name = encoding or detect_encoding(data, file)
    try:
        text = data.decode(name)
    except LookupError:
        raise Refusal(f"encoding: '{name}' is not one that Python knows; name another, such as utf-8") from None
    except UnicodeDecodeError as error:
        raise Refusal(
            f"{printable(file)}: byte {error.start} is not {name} ({error.reason}); set another encoding"
        ) from None
    return text.removeprefix("\ufeff"), name


def detect_encoding(data: bytes, file: Path) -> str:
    """Return the encoding of a file's bytes; refuses bytes that look like no text."""
    for mark, name in MARKS.items():
        if data.startswith(mark):
            return name
    try:
        data.decode("utf-8")
        return "utf-8"
    except UnicodeDecodeError:
        pass
    from charset_normalizer import from_bytes

    telling = b"\n".join(line for line in data.splitlines() if not line.isascii())[:SAMPLE]
    matches = list(from_bytes(telling if b"\0" not in data[:SAMPLE] else data[:SAMPLE]))
    if not matches:
        raise Refusal(f"{printable(file)}: is not text in any usual encoding; set its encoding, or replace the file")
    # Central European and DOS pages read western text nearly as well, but turn £ into Ł
    for match in matches:
        is_western = WESTERN in (match.encoding, *match.could_be_from_charset)
        if is_western and match.chaos <= matches[0].chaos + TOLERANCE and _is_single_byte(matches[0].encoding):
            return WESTERN
    return matches[0].encoding


def _is_single_byte(name: str) -> bool:
    """Return whether an encoding is of the Latin family that Windows-1252 is mistaken for."""
    return name.startswith(("cp1250", "cp125", "cp4", "cp7", "cp8", "hp_", "iso8859", "latin", "mac_"))
