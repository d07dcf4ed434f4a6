"""List the files of a user's folder: what is read, and what is passed over and why.

Hidden files and folders, and those that programs put beside pictures, are passed over. Links to files are followed.
Links to folders are refused, because neither DVC nor the digests of a folder look behind them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import Refusal, pluralize, printable

SERVICE_FOLDERS = {"@eadir", "__macosx", "$recycle.bin", "lost+found", "__pycache__", "thumbnails", "thumbs"}
SERVICE_FILES = {"thumbs.db", "desktop.ini"}
MOST_NAMES = 5  # in an error line


@dataclass
class Listing:
    """The files below a folder, sorted by path, and counts of what was passed over.

    hidden: files in hidden or service folders, by the name of the folder; others: files of other suffixes, by suffix.
    """

    files: list[Path] = field(default_factory=list)
    hidden: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)

    def describe_rest(self) -> list[str]:
        """Return sentences about the files that were passed over."""
        sentences = []
        for folder, count in sorted(self.hidden.items()):
            sentences.append(f"{pluralize(count, 'file')} in folders called {folder} passed over")
        if self.others:
            kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in sorted(self.others.items()))
            sentences.append(f"files of other kinds passed over: {kinds}")
        return sentences


def list_files(folder: Path, suffixes: Collection[str]) -> Listing:
    """Return the files below `folder` whose suffix, in lower case, is one of `suffixes`.

    Refuses links to folders, and names that are not UTF-8, which DVC cannot record; each line names all of them.
    """
    listing = Listing()
    links: list[Path] = []
    for path, passed in _walk(folder, None, links):
        suffix = path.suffix.lower()
        if passed is not None:
            listing.hidden[passed] += 1
        elif suffix in suffixes:
            listing.files.append(path)
        elif path.name.lower() not in SERVICE_FILES:
            listing.others[suffix or "without a suffix"] += 1
    _refuse(links, "links to folders, behind which changes are not noticed; copy the folders here")
    odd = [path for path in listing.files if not _is_utf8(path)]
    _refuse(odd, "names that are not UTF-8, which DVC cannot record; rename them")
    listing.files.sort(key=lambda path: path.as_posix())
    return listing


def list_folders(folder: Path) -> list[str]:
    """Return the names of the folders in `folder` that are neither hidden nor service folders, sorted."""
    names = [entry.name for entry in folder.iterdir() if entry.is_dir() and not is_service_folder(entry.name)]
    _refuse([folder / name for name in names if not _is_utf8(Path(name))], "names that are not UTF-8; rename them")
    return sorted(names)


def is_service_folder(name: str) -> bool:
    """Return whether a folder is hidden, or one that programs keep for themselves."""
    return name.startswith(".") or name.lower() in SERVICE_FOLDERS


def _walk(folder: Path, passed: str | None, links: list[Path]) -> Iterator[tuple[Path, str | None]]:
    """Yield (file, name of the hidden or service folder that holds it, if any); append links to folders to `links`."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            inside = passed or (entry.name if is_service_folder(entry.name) else None)
            yield from _walk(path, inside, links)
        elif entry.is_symlink() and entry.is_dir():
            links.append(path)
        elif passed or not entry.name.startswith("."):
            yield path, passed


def _refuse(paths: list[Path], fault: str) -> None:
    """Refuse the paths, if any, in one line."""
    if paths:
        names = ", ".join(printable(path) for path in paths[:MOST_NAMES])
        more = f" and {len(paths) - MOST_NAMES:,} more" if len(paths) > MOST_NAMES else ""
        raise Refusal(f"{names}{more}: {fault}")


def _is_utf8(path: Path) -> bool:
    try:
        path.name.encode()
    except UnicodeEncodeError:
        return False
    return True
