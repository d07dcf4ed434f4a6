"""Files inside a tar archive, read in memory: nothing is unpacked onto the disk, so no name leads out of a folder.

What an archive may make of itself is bounded: a few kilobytes can announce, and expand to, any size.
"""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Iterator
from lzma import LZMAError
from pathlib import Path

from components.refusal import Refusal


def members(path: Path, wanted: re.Pattern[str], largest: int, whole: int) -> Iterator[tuple[re.Match[str], bytes]]:
    """(match, content) of each plain file whose whole name matches `wanted`; links and devices are passed over.

    largest, whole: bytes that one file, and the archive unpacked, may have. Refuses what is more, or damaged.
    """
    size = 0
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                size += member.size
                if size > whole:
                    raise Refusal(f"{path}: unpacks to more than {whole >> 20} MB; take the original archive")
                match = wanted.fullmatch(member.name)
                if match is None or not member.isfile():
                    continue
                if member.size > largest:
                    raise Refusal(f"{path}: {member.name} has {member.size:,} bytes; take the original archive")
                if (inside := archive.extractfile(member)) is not None:
                    yield match, inside.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error, LZMAError) as error:
        raise Refusal(f"{path}: is no whole archive ({error}); take the original") from None
