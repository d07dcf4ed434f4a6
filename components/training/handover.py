"""Hand files from rank 0's machine to machines that share no folder with it.

Rank 0 and others that see the driver's folder are at home. On every other machine a folder stands for the driver's.
Before files are read there, rank 0 lists them with their SHA-256. What a machine lacks is broadcast to it, and what it
has besides is removed, so that all machines read the same bytes.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import psutil

from ..errors import Refusal, TryLater, pluralize
from ..files import atomic_path, files_digest
from ..recipes import allowed

CHUNK = 16 << 20  # bytes per broadcast
DRAFT = re.compile(r"\..+\.(\d+)")  # of `atomic_path`, with the number of its process
ROOT = Path(__file__).parents[2]  # of the code
PACKAGES = ("components", "pipelines")


class NotAtHome(Refusal):
    """Rank 0 is on a machine that does not see the driver's folder, where its results are expected."""


class Group(Protocol):
    """The collectives of a run's workers (`peers.Peers`)."""

    rank: int

    def gather(self, value: Any) -> list[Any]:
        """Return the `value` of every worker, in rank order."""

    def broadcast(self, value: Any, source: int = 0) -> Any:
        """Return the `value` of rank `source`."""


@dataclass(frozen=True)
class Apart:
    """The machines of one run, some of which share no folder with the driver's."""

    home: tuple[int, ...]  # ranks that see the driver's folder; 0 is the first
    receivers: tuple[int, ...]  # one rank per other machine, which writes files there
    folder: Path | None = None  # on other machines: what stands for the driver's folder
    note: Path | None = None  # on rank 0: the file in which hand-overs are noted for the driver


def find_apart(group: Group, folder: Path | None, machine: str, note: Path) -> Apart | None:
    """Return the machines of a run, or None where all workers see the driver's folder; called by all at once.

    folder: what stands for the driver's folder on this machine; None: the driver's own is seen here. machine: a name
    that no other machine has.
    """
    views = group.gather((folder is None, machine))
    home = tuple(rank for rank, (at_home, _) in enumerate(views) if at_home)
    if len(home) == len(views):
        return None
    if home[:1] != (0,):
        raise NotAtHome(
            f"{note.parent}: no worker sees this folder of the command, so results cannot get there; give the Ray node"
            " of this machine a CPU (and a GPU, if workers use one), or work in a folder that all machines share"
        )
    _check_code(group)
    first_ranks: dict[str, int] = {}
    for rank, (at_home, name) in enumerate(views):
        if not at_home:
            first_ranks.setdefault(name, rank)
    return Apart(home, tuple(first_ranks.values()), folder, note if group.rank == 0 else None)


def _check_code(group: Group) -> None:
    """Refuse machines whose code or version of torch is not rank 0's: their bytes might differ."""
    views = group.gather((_code_digests(), importlib.metadata.version("torch"), os.uname().nodename))
    for digests, version, name in views:
        for package, digest in digests.items():
            if digest != views[0][0].get(package):
                raise Refusal(f"{name}: {package} differs from that of {views[0][2]}; use the same version of the code")
        if version != views[0][1]:
            raise Refusal(f"{name}: torch is {version} there, but {views[0][1]} on {views[0][2]}; install the same")


def _code_digests() -> dict[str, str]:
    """Return {package: digest of its source files} of our own code and of the packages that recipes may name."""
    digests = {package: files_digest(ROOT, (ROOT / package).rglob("*.py")) for package in PACKAGES}
    for package in sorted(allowed.PACKAGES):
        spec = importlib.util.find_spec(package)
        places = [] if spec is None else [*(spec.submodule_search_locations or [spec.origin or ""])]
        sources = [
            file for place in map(Path, places) for file in ([place] if place.is_file() else place.rglob("*.py"))
        ]
        root = Path(places[0]).parent if places else ROOT
        digests[package] = files_digest(root, sources)
    return digests


def hand_over(group: Group, apart: Apart, paths: Sequence[Path]) -> None:
    """Give all machines the files and folders that rank 0's machine has at `paths`; called by all at once.

    paths: on each machine as they are called there. A path at which rank 0 has nothing is empty everywhere afterwards.
    """
    listing = group.broadcast([_list_files(path) for path in paths] if group.rank == 0 else None)
    files = [
        (path / name if name else path, int(size), str(sha256))
        for path, entries in zip(paths, listing, strict=True)
        for name, size, sha256 in entries or ()
    ]
    lacking: list[int] = []
    fault = ""
    if group.rank in apart.receivers and apart.folder is not None:
        _remove_others(apart.folder, paths, {path for path, _, _ in files})
        lacking = [number for number, (path, size, sha256) in enumerate(files) if not _has_bytes(path, size, sha256)]
        fault = _describe_outside(apart.folder, [files[number][0] for number in lacking])
    answers = group.gather((lacking, fault))
    for _, text in answers:
        if text:
            raise Refusal(text)
    sent = sorted({number for numbers, _ in answers for number in numbers})
    for number in sent:
        path, size, sha256 = files[number]
        chunks = _broadcast_file(group, path, size)
        if number in lacking:
            _write_file(path, chunks, sha256)
        else:
            for _ in chunks:
                pass
    group.gather(None)  # other workers of a receiver's machine wait for it
    if apart.note is not None:
        with apart.note.open("a") as note:
            note.write(f"{len(sent)} {sum(files[number][1] for number in sent)} {len(apart.receivers)}\n")


def describe_handovers(note: Path) -> str | None:
    """Return a sentence about what rank 0 noted for the driver, or None where all machines share its folder."""
    text = note.read_text() if note.is_file() else ""
    lines = [tuple(map(int, line.split())) for line in text.splitlines()]
    if not lines:
        return None
    count, size, machines = sum(line[0] for line in lines), sum(line[1] for line in lines), max(x[2] for x in lines)
    where = f"{pluralize(machines, 'machine')} without this folder"
    return f"handed over {pluralize(count, 'file')} ({size / 1e6:,.1f} MB) to {where}"


def _list_files(path: Path) -> list[tuple[str, int, str]] | None:
    """Return (path below `path`, bytes, SHA-256) of each file of a folder; the path of a lone file is "".

    Return None where there is nothing.
    """
    if path.is_file():
        return [_list_file(path, "")]
    if not path.is_dir():
        return None
    names = sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())
    return [_list_file(path / name, name) for name in names if not _is_hidden(name)]


def _list_file(path: Path, name: str) -> tuple[str, int, str]:
    return name, path.stat().st_size, _digest(path)


def _is_hidden(name: str) -> bool:
    """Return whether a file, or a folder on its path, is hidden; drafts are."""
    return any(part.startswith(".") for part in Path(name).parts)


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file, which is read again only after a change."""
    status = path.stat()
    return _cached_digest(path.resolve(), status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1 << 16)
def _cached_digest(path: Path, inode: int, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _has_bytes(path: Path, size: int, sha256: str) -> bool:
    return path.is_file() and path.stat().st_size == size and _digest(path) == sha256


def _is_inside(folder: Path, path: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _describe_outside(folder: Path, paths: Sequence[Path]) -> str:
    """Return a refusal if one of `paths` is not below `folder`: nothing is written elsewhere on another machine."""
    for path in paths:
        if not _is_inside(folder, path):
            name = os.uname().nodename
            return f"{path}: missing or different on {name}; copy it there, or move it into the folder of the command"
    return ""


def _remove_others(folder: Path, paths: Sequence[Path], listed: set[Path]) -> None:
    """Remove files at `paths` below `folder` that rank 0 has not, and drafts of processes that have ended.

    Other hidden files stay, because rank 0 does not list any.
    """
    for path in paths:
        if not _is_inside(folder, path):
            continue
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        for file in files:
            draft = DRAFT.fullmatch(file.name)
            if draft is not None:
                is_obsolete = not psutil.pid_exists(int(draft[1]))
            else:
                is_obsolete = file not in listed and not _is_hidden(str(file.relative_to(path)))
            if is_obsolete:
                file.unlink(missing_ok=True)


def _broadcast_file(group: Group, path: Path, size: int) -> Iterator[bytes]:
    """Yield the bytes of rank 0's file on every worker."""
    if group.rank > 0:
        for _ in range(0, size, CHUNK):
            yield group.broadcast(None)
        return
    with path.open("rb") as file:
        for _ in range(0, size, CHUNK):
            yield group.broadcast(file.read(CHUNK))


def _write_file(path: Path, chunks: Iterator[bytes], sha256: str) -> None:
    """Write a file of these bytes atomically; raise TryLater if they have another digest."""
    digest = hashlib.sha256()
    with atomic_path(path) as draft:
        with draft.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
                digest.update(chunk)
        if digest.hexdigest() != sha256:
            raise TryLater(f"{path}: changed while it was handed over; repeat the command")
