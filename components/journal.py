"""The run's truth: a local append-only file of checksummed lines, replayed to the tracking server by one writer.

    5f3a91c2 {"kind": "metric", "time": 1795487823949, "step": 10, "epoch": 0.5, "values": {"train/loss": 2.302585}}

A checkpoint stores the number of lines written before it; going on from there drops what came after. A torn last line is
dropped on opening. Floats keep every bit; NaN and infinities are written as Python's json does.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Record:
    number: int
    time: int  # milliseconds since 1970
    kind: str  # metric, progress, artifact, tag, param, text, end
    payload: dict[str, Any]


class Journal:
    """Opens `path` for appending after its valid lines, or after the first `position` of them."""

    def __init__(self, path: str | Path, position: int | None = None) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines, size = _valid(self.path, position)
        self.position = len(lines)
        self.file = self.path.open("ab")
        self.file.truncate(size)

    def write(self, kind: str, **payload: Any) -> None:
        body = json.dumps({"kind": kind, "time": time.time_ns() // 1_000_000, **payload}).encode()
        self.file.write(b"%08x %s\n" % (zlib.crc32(body), body))
        self.file.flush()
        self.position += 1

    def sync(self) -> None:
        """To the disk, not only to the operating system: before a checkpoint names this position."""
        os.fsync(self.file.fileno())


def read(path: str | Path, start: int = 0) -> list[Record]:
    """The valid records from number `start` on; none when there is no such file yet."""
    records = []
    for number, body in enumerate(_valid(Path(path), None)[0][start:], start):
        line = json.loads(body)
        records.append(Record(number, line.pop("time"), line.pop("kind"), line))
    return records


def _valid(path: Path, limit: int | None) -> tuple[list[bytes], int]:
    """Bodies of the lines up to the first damaged one (at most `limit`), and the bytes they take."""
    if not path.is_file():
        return [], 0
    bodies: list[bytes] = []
    size = 0
    for line in path.read_bytes().splitlines(keepends=True):
        crc, _, body = line.rstrip(b"\n").partition(b" ")
        whole = line.endswith(b"\n") and len(crc) == 8 and crc == b"%08x" % zlib.crc32(body)
        if not whole or (limit is not None and len(bodies) >= limit):
            break
        bodies.append(body)
        size += len(line)
    return bodies, size
