"""A run is a folder, and its truth a local append-only file of checksummed lines; `tracking.py` replays it to MLflow.

    run.json       what the run is: name, experiment, parent, parameters, tags, inputs
    journal.log    what happened, written by worker 0; a driver's own remarks are in stage.log beside it
    5f3a91c2 {"kind": "metric", "time": 1795487823949, "step": 10, "epoch": 0.5, "values": {"train/loss": 2.302585}}

A checkpoint stores the number of lines written before it. Going on from there, what is written again is matched with
the lines that are there already, which keep their time: a replay sends every point once. Floats keep every bit.
"""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RUN, LOG, STAGE_LOG = "run.json", "journal.log", "stage.log"
STOP = "stop"  # a file of this name in a run's folder asks it to save and end
VOLATILE = ("time", "speed")  # what differs when a step is done again


@dataclass(frozen=True)
class Record:
    time: int  # milliseconds since 1970
    kind: str  # begin, metric, progress, artifact, model, tag, note, text, end
    payload: dict[str, Any]


class Journal:
    """Opens `path` for appending after its valid lines, or after the first `position` of them."""

    def __init__(self, path: str | Path, position: int | None = None) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        bodies, ends = _valid(self.path)
        self.position = len(bodies) if position is None else min(position, len(bodies))
        self.ends, self.ahead = ends, bodies[self.position :]
        self.file = self.path.open("ab")
        self.file.truncate(ends[len(bodies)])
        self.lock = threading.Lock()

    def write(self, kind: str, **payload: Any) -> None:
        body = json.dumps({"kind": kind, "time": time.time_ns() // 1_000_000, **payload}).encode()
        with self.lock:
            self.position += 1
            if self.ahead:
                if _same(self.ahead.pop(0), body):
                    return
                self.ahead.clear()
                self.file.truncate(self.ends[self.position - 1])
            self.file.write(b"%08x %s\n" % (zlib.crc32(body), body))
            self.file.flush()

    def __reduce__(self) -> tuple[type[Journal], tuple[Path]]:
        return Journal, (self.path,)  # Ray pickles what a callback holds

    def sync(self) -> None:
        """To the disk, not only to the operating system: before a checkpoint names this position."""
        os.fsync(self.file.fileno())


class Tail:
    """Reads on in a journal from byte `offset`; a line that is not whole yet is left for the next time."""

    def __init__(self, path: str | Path, offset: int = 0) -> None:
        self.path, self.offset = Path(path), offset

    def new(self) -> list[Record]:
        if not self.path.is_file() or self.path.stat().st_size <= self.offset:
            return []
        bodies, ends = _valid(self.path, self.offset)
        self.offset += ends[-1]
        return [_record(body) for body in bodies]


def read(path: str | Path) -> list[Record]:
    """The valid records; none when there is no such file yet."""
    return Tail(path).new()


def describe(
    folder: Path,
    name: str,
    experiment: str,
    parent: Path | None = None,
    params: dict[str, Any] | None = None,
    tags: dict[str, str] | None = None,
    inputs: list[dict[str, Any]] | None = None,
) -> None:
    """Writes run.json; a run begun again in its old folder stays the same run.

    parent: another run's folder; params: flat, they key the folder and never change; inputs: {name, digest, profile}.
    """
    file = folder / RUN
    old = json.loads(file.read_text()) if file.is_file() else {}
    facts = {
        "id": old.get("id") or uuid.uuid4().hex,
        "created": old.get("created") or time.time_ns() // 1_000_000,
        "name": name,
        "experiment": experiment,
        "parent": os.path.relpath(parent, folder) if parent else None,
        "params": params or {},
        "tags": tags or {},
        "inputs": inputs or [],
    }
    folder.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{RUN}.{os.getpid()}")
    draft.write_text(json.dumps(facts, indent=1, default=str))
    draft.replace(file)


def _record(body: bytes) -> Record:
    line = json.loads(body)
    return Record(line.pop("time"), line.pop("kind"), line)


def _same(old: bytes, new: bytes) -> bool:
    """Whether two lines say the same of the same step (compared as text: NaN equals NaN)."""
    ours, theirs = ({k: v for k, v in json.loads(body).items() if k not in VOLATILE} for body in (old, new))
    return json.dumps(ours, sort_keys=True) == json.dumps(theirs, sort_keys=True)


def _valid(path: Path, offset: int = 0) -> tuple[list[bytes], list[int]]:
    """Bodies of the lines from `offset` up to the first damaged one, and the bytes before each and after the last."""
    bodies: list[bytes] = []
    ends = [0]
    if not path.is_file():
        return bodies, ends
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            crc, _, body = line.rstrip(b"\n").partition(b" ")
            if not line.endswith(b"\n") or crc != b"%08x" % zlib.crc32(body):
                break
            bodies.append(body)
            ends.append(ends[-1] + len(line))
    return bodies, ends
