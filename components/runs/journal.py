"""A run is a folder, and its truth a local append-only file of checksummed lines; `tracking.py` replays it to MLflow.

    run.json       what the run is: name, experiment, parent, parameters, tags, inputs
    kept/          what lines name and a later run may replace before it is sent: pictures, reports, models
    journal.log    what happened, written by worker 0; a driver's own remarks are in stage.log beside it
    5f3a91c2 {"kind": "metric", "time": 1795487823949, "step": 10, "epoch": 0.5, "values": {"train/loss": 2.302585}}

A checkpoint stores the number of lines written before it. Going on from there, what is written again is matched with
the lines that are there already, which keep their time: a replay sends every point once. Where it says something else
(another attempt, with other parameters), a line `rewind` takes back what came after; nothing is ever written over.
Floats keep every bit.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import write_json

RUN, LOG, STAGE_LOG = "run.json", "journal.log", "stage.log"
COPIES = "kept"
STOP, SAVE = "stop", "save"  # files of these names in a run's folder ask it to save and end, or to save and go on
VOLATILE = ("time", "speed")  # what differs when a step is done again


def copy_to_run(run: Path, path: Path, digest: str) -> Path:
    """A copy, in the run's folder, of the file or folder at `path` with that digest; made once, whole or not at all."""
    place = run / COPIES / digest[:16] / path.name
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name(f".{place.name}.{os.getpid()}")
        if path.is_dir():
            shutil.copytree(path, draft)
        else:
            shutil.copyfile(path, draft)
        draft.replace(place)
    return place


@dataclass(frozen=True)
class Record:
    time: int  # milliseconds since 1970
    kind: str  # begin, input, metric, progress, artifact, model, tag, note, text, rewind, end
    payload: dict[str, Any]


class Journal:
    """Opens `path` for appending after its valid lines, or after the first `position` of them."""

    def __init__(self, path: str | Path, position: int | None = None) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        bodies, size = _valid(self.path)
        standing = _standing(bodies)
        self.position = len(standing) if position is None else min(position, len(standing))
        self.ahead = standing[self.position :]
        self.file = self.path.open("ab")
        self.file.truncate(size)
        self.lock = threading.Lock()

    def write(self, kind: str, **payload: Any) -> None:
        body = _body(kind, payload)
        with self.lock:
            if self.ahead and _same(self.ahead[0], body):
                del self.ahead[0]
            else:
                if self.ahead:
                    self._append(_body("rewind", {"position": self.position}))
                    self.ahead.clear()
                self._append(body)
            self.position += 1

    def _append(self, body: bytes) -> None:
        self.file.write(b"%08x %s\n" % (zlib.crc32(body), body))
        self.file.flush()

    def __reduce__(self) -> tuple[type[Journal], tuple[Path]]:
        return Journal, (self.path,)  # Ray pickles what a callback holds

    def sync(self) -> None:
        """To the disk, not only to the operating system: before a checkpoint names this position."""
        os.fsync(self.file.fileno())


class Tail:
    """Reads on in a journal from byte `offset`: all that was ever written, also what a rewind took back.

    A line that is not whole yet is left for the next time; where a damaged end was cut off meanwhile, all comes again.
    """

    def __init__(self, path: str | Path, offset: int = 0) -> None:
        self.path, self.offset = Path(path), offset

    def new(self) -> list[Record]:
        if not self.path.is_file() or self.path.stat().st_size == self.offset:
            return []
        if not self._at_a_line():
            self.offset = 0
        bodies, size = _valid(self.path, self.offset)
        self.offset += size
        return [_record(body) for body in bodies]

    def _at_a_line(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(max(0, self.offset - 1))
            return self.offset == 0 or file.read(1) == b"\n"


def read_records(path: str | Path) -> list[Record]:
    """The valid records that no rewind took back; none when there is no such file yet."""
    return [_record(body) for body in _standing(_valid(Path(path))[0])]


def find_files(name: str, *folders: Path) -> list[Path]:
    """All of that name in and below the folders, in order; what is taken away meanwhile is passed over."""
    return sorted({Path(at) / name for folder in folders for at, _, names in os.walk(folder) if name in names})


def describe_run(
    folder: Path,
    name: str,
    experiment: str,
    parent: Path | None = None,
    params: dict[str, Any] | None = None,
    tags: dict[str, str] | None = None,
    inputs: list[dict[str, Any]] | None = None,
) -> None:
    """Writes run.json; a run begun again in its old folder stays the same run.

    parent: another run's folder; inputs: {name, digest, profile}; params: flat. They mostly key the folder; where some
    are others than at first, the first stay (MLflow's never change) and the others are noted as a further attempt.
    """
    file = folder / RUN
    old = json.loads(file.read_text()) if file.is_file() else {}
    attempts, params = old.get("attempts", []), json.loads(json.dumps(params or {}, default=str))
    if old and (changed := _changed(old["params"], params)) != (attempts[-1] if attempts else {}):
        attempts.append(changed)
    facts = {
        "id": old.get("id") or uuid.uuid4().hex,
        "created": old.get("created") or time.time_ns() // 1_000_000,
        "name": name,
        "experiment": experiment,
        "parent": os.path.relpath(parent, folder) if parent else None,
        "params": old.get("params", params),
        "attempts": attempts,  # what each but the first changed in the first's params: {key: [old, new]}
        "tags": tags or {},
        "inputs": inputs or [],
    }
    write_json(file, facts)


def _changed(old: dict[str, Any], new: dict[str, Any]) -> dict[str, list[Any]]:
    return {
        key: [old.get(key), new.get(key)] for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)
    }


def _body(kind: str, payload: dict[str, Any]) -> bytes:
    return json.dumps({"kind": kind, "time": time.time_ns() // 1_000_000, **payload}).encode()


def _standing(bodies: list[bytes]) -> list[bytes]:
    """Without what rewinds took back, and without them."""
    kept: list[bytes] = []
    for body in bodies:
        if body.startswith(b'{"kind": "rewind"'):
            del kept[json.loads(body)["position"] :]
        else:
            kept.append(body)
    return kept


def _record(body: bytes) -> Record:
    line = json.loads(body)
    return Record(line.pop("time"), line.pop("kind"), line)


def _same(old: bytes, new: bytes) -> bool:
    """Whether two lines say the same of the same step (compared as text: NaN equals NaN)."""
    ours, theirs = ({k: v for k, v in json.loads(body).items() if k not in VOLATILE} for body in (old, new))
    return json.dumps(ours, sort_keys=True) == json.dumps(theirs, sort_keys=True)


def _valid(path: Path, offset: int = 0) -> tuple[list[bytes], int]:
    """Bodies of the lines from `offset` up to the first damaged one, and how many bytes they take."""
    bodies: list[bytes] = []
    size = 0
    if not path.is_file():
        return bodies, size
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            crc, _, body = line.rstrip(b"\n").partition(b" ")
            if not line.endswith(b"\n") or crc != b"%08x" % zlib.crc32(body):
                break
            bodies.append(body)
            size += len(line)
    return bodies, size
