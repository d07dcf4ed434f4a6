"""Keep what happens in a run in a local append-only journal of checksummed lines.

    run.json       what the run is (see description.py)
    kept/          copies of files that lines refer to and that a later run may replace: pictures, reports, models
    journal.log    what happened, written by worker 0; the driver writes stage.log beside it
    5f3a91c2 {"kind": "metric", "time": 1795487823949, "step": 10, "epoch": 0.5, "values": {"train/loss": 2.302585}}

A checkpoint stores the number of lines written before it. A run that resumes from there writes its lines again: a line
that equals the existing one is skipped, and the existing one keeps its time, so that each point reaches MLflow once.
Where a line differs (an attempt with other parameters), a line `rewind` revokes what came after; nothing is
overwritten. A line `resume` says that the hardware changed, and a line `warning` what the user should know. They have
no position, because a repetition need not write them. Floats keep every bit.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import threading
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import atomic_path

LOG = "journal.log"
STAGE_LOG = "stage.log"
COPIES = "kept"
# A file of this name in a run's folder asks the run to save and end, or to save and continue.
STOP = "stop"
SAVE = "save"
VOLATILE = ("time", "speed")  # fields that differ when a step is repeated
# Kinds of lines without a position.
REWIND = "rewind"
RESUME = "resume"
WARNING = "warning"
ASIDES = tuple(f'{{"kind": "{kind}"'.encode() for kind in (RESUME, WARNING))  # their beginnings


def copy_to_run(run: Path, path: Path, digest: str) -> Path:
    """Copy the file or folder at `path` into the folder `run`, once per digest; return the copy's path."""
    copy = run / COPIES / digest[:16] / path.name
    if not copy.exists():
        with atomic_path(copy) as draft:
            if path.is_dir():
                shutil.copytree(path, draft)
            else:
                shutil.copyfile(path, draft)
    return copy


@dataclass(frozen=True)
class Record:
    """One line of a journal."""

    time: int  # milliseconds since 1970
    kind: str  # begin, input, metric, progress, artifact, model, tag, note, text, rewind, resume, warning, end
    payload: dict[str, Any]


@dataclass(frozen=True)
class Metrics:
    """The values that a run measured at one step."""

    step: int
    epoch: float  # NaN if the run counts no epochs
    values: dict[str, float]


class Journal:
    """A journal opened for appending after its valid lines.

    position: the number of lines after which to continue; later lines are matched with what is written next.
    """

    def __init__(self, path: str | Path, position: int | None = None) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        bodies, size = _read_valid(self.path)
        current = _drop_rewound(bodies)
        self.position = len(current) if position is None else min(position, len(current))
        self.unmatched = current[self.position :]  # lines of an earlier attempt, not yet written again
        self.file = self.path.open("ab")
        self.file.truncate(size)
        self.lock = threading.Lock()

    def write(self, kind: str, **payload: Any) -> None:
        """Append a line, unless the earlier attempt wrote the same one at this position."""
        body = _encode(kind, payload)
        with self.lock:
            if self.unmatched and _is_same(self.unmatched[0], body):
                del self.unmatched[0]
            else:
                if self.unmatched:
                    self._append(_encode(REWIND, {"position": self.position}))
                    self.unmatched.clear()
                self._append(body)
            self.position += 1

    def write_resume(self, **payload: Any) -> None:
        """Append a line about the attempt that begins here; it has no position."""
        with self.lock:
            self._append(_encode(RESUME, payload))

    def write_warning(self, text: str) -> None:
        """Append a line that the user should see; it has no position."""
        with self.lock:
            self._append(_encode(WARNING, {"text": text}))

    def _append(self, body: bytes) -> None:
        self.file.write(b"%08x %s\n" % (zlib.crc32(body), body))
        self.file.flush()

    def __reduce__(self) -> tuple[type[Journal], tuple[Path]]:
        """Pickle the path alone: Ray pickles what a callback holds."""
        return Journal, (self.path,)

    def sync(self) -> None:
        """Flush the lines to the disk itself; call it before a checkpoint stores the position."""
        os.fsync(self.file.fileno())


@dataclass(frozen=True)
class News:
    """The lines appended to a journal since the last call of `Tail.read_news`.

    records: without those that rewinds among the lines revoked. superseded: {number of such a rewind in the journal,
    from 1: the records that it revoked}, those of earlier calls included.
    """

    count: int  # of all lines
    records: list[Record]
    superseded: dict[int, list[Record]]


class Tail:
    """A reader that continues at byte `offset` of a journal and also returns what a rewind revoked.

    An incomplete last line is left for the next read. If a damaged end was cut off since, all lines are read again.
    """

    def __init__(self, path: str | Path, offset: int = 0) -> None:
        self.path = Path(path)
        self.offset = offset

    def read_new(self) -> list[Record]:
        """Return the records appended since the last call."""
        if not self.path.is_file() or self.path.stat().st_size == self.offset:
            return []
        if not self._is_at_line_start():
            self.offset = 0
        bodies, size = _read_valid(self.path, self.offset)
        self.offset += size
        return [_decode(body) for body in bodies]

    def read_news(self) -> News:
        """Return what is new like `read_new`, with the rewinds among it applied."""
        new = self.read_new()
        if not any(record.kind == REWIND for record in new):
            return News(len(new), new, {})
        bodies, _ = _read_valid(self.path, end=self.offset)
        begin = len(bodies) - len(new)
        standing, revoked = _apply_rewinds(bodies)
        records = [_decode(bodies[index]) for index in standing if index >= begin]
        records += [record for record in new if record.kind in (RESUME, WARNING)]
        superseded = {
            number: [_decode(bodies[index]) for index in indices]
            for number, (rewind, indices) in enumerate(revoked.items(), 1)
            if rewind >= begin
        }
        return News(len(new), records, superseded)

    def _is_at_line_start(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(max(0, self.offset - 1))
            return self.offset == 0 or file.read(1) == b"\n"


def read_records(path: str | Path, *kinds: str) -> list[Record]:
    """Return the valid records that no rewind revoked, those of `kinds` alone if any are named.

    A file that does not exist yet has no records.
    """
    records = [_decode(body) for body in _drop_rewound(_read_valid(Path(path))[0])]
    return [record for record in records if not kinds or record.kind in kinds]


def merge_journal(path: Path, other: Path) -> None:
    """Continue the journal at `path` as `other` does, which another machine wrote; equal lines are not repeated."""
    journal = Journal(path, position=0)
    for record in read_records(other):
        journal.write(record.kind, time=record.time, **record.payload)
    journal.sync()


def read_metrics(folder: Path) -> list[Metrics]:
    """Return the metrics in the journal of the run in `folder`, in the order in which they were written."""
    payloads = [record.payload for record in read_records(folder / LOG, "metric")]
    return [Metrics(line["step"], line.get("epoch", math.nan), line["values"]) for line in payloads]


def find_files(name: str, *folders: Path) -> list[Path]:
    """Return the sorted paths of the files `name` in and below the folders; skip folders that vanish."""
    return sorted({Path(at) / name for folder in folders for at, _, names in os.walk(folder) if name in names})


def _encode(kind: str, payload: dict[str, Any]) -> bytes:
    return json.dumps({"kind": kind, "time": time.time_ns() // 1_000_000, **payload}).encode()


def _decode(body: bytes) -> Record:
    line = json.loads(body)
    return Record(line.pop("time"), line.pop("kind"), line)


def _drop_rewound(bodies: list[bytes]) -> list[bytes]:
    """Return the lines that have a position and that no rewind revoked."""
    return [bodies[index] for index in _apply_rewinds(bodies)[0]]


def _apply_rewinds(bodies: list[bytes]) -> tuple[list[int], dict[int, list[int]]]:
    """Return the indices of the lines that stand, and {index of a rewind: indices of the lines that it revoked}."""
    standing: list[int] = []
    revoked = {}
    for index, body in enumerate(bodies):
        if body.startswith(b'{"kind": "%s"' % REWIND.encode()):
            position = json.loads(body)["position"]
            revoked[index] = standing[position:]
            del standing[position:]
        elif not body.startswith(ASIDES):
            standing.append(index)
    return standing, revoked


def _is_same(old: bytes, new: bytes) -> bool:
    """Return whether two lines differ in volatile fields at most; they are compared as text, since NaN equals NaN."""

    def stable_text(body: bytes) -> str:
        fields = {key: value for key, value in json.loads(body).items() if key not in VOLATILE}
        return json.dumps(fields, sort_keys=True)

    return stable_text(old) == stable_text(new)


def _read_valid(path: Path, offset: int = 0, end: int | None = None) -> tuple[list[bytes], int]:
    """Return the bodies of the lines from `offset` up to the first damaged one, and their total size in bytes.

    end: the byte at which to stop, the end of a line; None: at the end of the file.
    """
    bodies: list[bytes] = []
    size = 0
    if not path.is_file():
        return bodies, size
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if offset + size == end:
                break
            crc, _, body = line.rstrip(b"\n").partition(b" ")
            if not line.endswith(b"\n") or crc != b"%08x" % zlib.crc32(body):
                break
            bodies.append(body)
            size += len(line)
    return bodies, size
